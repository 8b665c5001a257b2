//! The queues that this node brokers: which polls wait, which tasks are offered, who gets what.
//!
//! # Contract
//! Plain state without I/O; the caller carries out the matches and reports what became of them.
//! Within a queue the most urgent task goes to the poll that has waited longest. A match takes both
//! out; [`Brokers::settle`] puts back what was not used up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_machine::stamp::{nanos, timestamp};
use bristlecone_proto::chain::Poll;
use bristlecone_proto::node::claim_result::Outcome;
use bristlecone_proto::node::{Offer, OfferedTask, PollRegister, QueueDescription, QueueKey};
use bristlecone_proto::temporal::api::enums::v1::RateLimitSource;
use bristlecone_proto::temporal::api::taskqueue::v1::{PollerInfo, RateLimitConfig, TaskQueueConfig, TaskQueueStats};
use bristlecone_storage::runtime::UnixNanos;
use tokio::time::Instant;

use super::fair::{Fair, Next};
use super::pace::{Meter, Rate, Scaling};
use crate::meta::QueueConfigs;

/// Tasks of one queue that are held; shards offer the others again later.
const TASKS_MAX: usize = 4_096;
/// Fairness keys of one queue whose rate is remembered; beyond that all begin anew.
const KEY_RATES_MAX: usize = 10_000;
/// Queues that one node brokers.
const QUEUES_MAX: usize = 100_000;
/// Pollers of one queue that are remembered for describe.
const POLLERS_MAX: usize = 200;
/// A sticky queue without polls for so long has lost its worker.
const STICKY_IDLE: Duration = Duration::from_secs(10);
/// Pollers are shown, and idle queues kept, for so long.
const MEMORY: Duration = Duration::from_secs(300);
/// A queue that had a poll so long ago may have another soon.
const LATELY: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub struct Brokers {
    queues: HashMap<QueueKey, Queue>,
    /// Queues whose rate lets no task go for so long.
    throttled: Vec<(QueueKey, Duration)>,
    /// What operators set.
    configs: QueueConfigs,
}

#[derive(Debug)]
struct Queue {
    /// The longest waiting first.
    polls: VecDeque<Waiting>,
    tasks: Fair<TaskOrder, Offered>,
    /// Polls and tasks that are being matched: a repeated registration of a poll is ignored, a repeated offer of a task
    /// kept until it is known what became of the match.
    claimed_polls: HashSet<(u64, u64)>,
    claimed_tasks: HashMap<TaskOrder, Option<Offered>>,
    /// By identity: when it polled last.
    pollers: HashMap<String, (UnixNanos, Poll)>,
    /// Backlog of each shard as it said: count, scheduled time of the oldest.
    backlogs: HashMap<u64, Backlog>,
    /// What operators set for it.
    config: Option<Arc<TaskQueueConfig>>,
    /// The limit that a worker asked for last.
    asked_rate: Option<f64>,
    /// How fast tasks may go: as operators say, else as a worker asked for.
    rate: Option<Rate>,
    /// How fast tasks of a fairness key may go, by key.
    key_rates: HashMap<String, Rate>,
    added: Meter,
    dispatched: Meter,
    /// When a rate held a task back last.
    limited: Option<Instant>,
    /// Somebody will look again when the rate lets the next task go.
    throttled: bool,
    scaling: Scaling,
    /// Wall time at an instant, as the last poll told it.
    clock: (Instant, UnixNanos),
    used: Instant,
    last_poll: Instant,
    /// Its worker said goodbye.
    shut: bool,
}

#[derive(Debug)]
struct Backlog {
    count: u64,
    oldest: Option<UnixNanos>,
    said: Instant,
}

#[derive(Debug, Clone)]
struct Waiting {
    poll: Poll,
    since: Instant,
    until: Instant,
}

#[derive(Debug, Clone)]
struct Offered {
    node: u64,
    group_id: u64,
    task: OfferedTask,
}

/// Priority, age, and what makes a task unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TaskOrder {
    priority: u32,
    scheduled: UnixNanos,
    run_id: String,
    event: i64,
    query: u64,
    attempt: i32,
    stamp: i32,
}

/// A task for a poll: to be claimed at the task's shard.
#[derive(Debug)]
pub struct Match {
    pub queue: QueueKey,
    pub poll: Poll,
    pub task: OfferedTask,
    /// Who offered it.
    pub node: u64,
    pub group_id: u64,
    /// Tasks that wait in the queue.
    pub backlog_count: i64,
    /// Polls that the worker should have more or fewer; 0: no opinion.
    pub poller_delta: i32,
    since: Instant,
    until: Instant,
}

impl Brokers {
    /// A poll waits, or still waits.
    pub fn register(&mut self, register: PollRegister, now: Instant, wall: UnixNanos) -> Vec<Match> {
        let (Some(key), Some(poll)) = (register.queue, register.poll) else { return Vec::new() };
        let until = now + Duration::from_millis(register.left_ms);
        let Some(queue) = self.queue(&key, now) else { return Vec::new() };
        queue.note_poll(&poll, now, wall);
        if let Some(per_second) = poll.tasks_per_second_max {
            queue.asked_rate = Some(per_second);
            queue.set_rate(now);
        }
        let id = (poll.node_id, poll.poll_id);
        if queue.claimed_polls.contains(&id) || queue.polls.iter().any(|w| (w.poll.node_id, w.poll.poll_id) == id) {
            return Vec::new();
        }
        queue.polls.push_back(Waiting { poll, since: now, until });
        self.matches(&key, now)
    }

    /// Takes over what operators set; whatever may go by now is matched.
    pub fn configure(&mut self, configs: &QueueConfigs, now: Instant) -> Vec<Match> {
        if Arc::ptr_eq(&self.configs, configs) {
            return Vec::new();
        }
        self.configs = Arc::clone(configs);
        let mut changed = Vec::new();
        for (key, queue) in &mut self.queues {
            let config = config_of(configs, key);
            if queue.config != config {
                queue.configure(config, now);
                changed.push(key.clone());
            }
        }
        changed.iter().flat_map(|key| self.matches(key, now)).collect()
    }

    /// Takes the queues whose rate holds tasks back, with the time for which it does.
    pub fn take_throttled(&mut self) -> Vec<(QueueKey, Duration)> {
        std::mem::take(&mut self.throttled)
    }

    /// The rate of a queue may let tasks go again.
    pub fn unthrottle(&mut self, key: &QueueKey, now: Instant) -> Vec<Match> {
        let Some(queue) = self.queues.get_mut(key) else { return Vec::new() };
        queue.throttled = false;
        self.matches(key, now)
    }

    fn matches(&mut self, key: &QueueKey, now: Instant) -> Vec<Match> {
        let Some(queue) = self.queues.get_mut(key) else { return Vec::new() };
        let (matches, pause) = queue.matches(key, now);
        self.throttled.extend(pause.map(|pause| (key.clone(), pause)));
        matches
    }

    pub fn cancel(&mut self, key: &QueueKey, node: u64, poll_ids: &[u64]) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.polls.retain(|w| w.poll.node_id != node || !poll_ids.contains(&w.poll.poll_id));
            // One that is being matched does not come back when its match comes to nothing.
            queue.claimed_polls.retain(|(at, id)| *at != node || !poll_ids.contains(id));
        }
    }

    /// A shard has tasks. Also returns those that a sticky queue without a worker cannot serve.
    pub fn offer(&mut self, node: u64, offer: Offer, now: Instant) -> (Vec<Match>, Vec<OfferedTask>) {
        let Some(key) = offer.queue else { return (Vec::new(), Vec::new()) };
        let Some(queue) = self.queue(&key, now) else { return (Vec::new(), Vec::new()) };
        queue.used = now;
        queue.backlogs.insert(
            offer.group_id,
            Backlog { count: offer.backlog_count, oldest: offer.oldest.as_ref().map(nanos), said: now },
        );
        let deserted = queue.polls.is_empty()
            && queue.claimed_polls.is_empty()
            && (queue.shut || now.duration_since(queue.last_poll) > STICKY_IDLE);
        let mut orphans = Vec::new();
        for task in offer.tasks {
            if deserted && task.sticky {
                orphans.push(task);
                continue;
            }
            let order = TaskOrder::of(&task);
            let offered = Offered { node, group_id: offer.group_id, task };
            match queue.claimed_tasks.get_mut(&order) {
                Some(again) => *again = Some(offered),
                None => queue.hold(order, offered, now),
            }
        }
        (self.matches(&key, now), orphans)
    }

    /// What became of a match.
    pub fn settle(&mut self, matched: Match, outcome: Outcome, now: Instant) -> Vec<Match> {
        let Match { queue: key, poll, task, node, group_id, since, until, .. } = matched;
        let Some(queue) = self.queue(&key, now) else { return Vec::new() };
        let order = TaskOrder::of(&task);
        let waits = queue.claimed_polls.remove(&(poll.node_id, poll.poll_id));
        let again = queue.claimed_tasks.remove(&order).flatten();
        if let (Some(again), Outcome::Started | Outcome::Retry) = (again, outcome) {
            // The poll was gone when its task came, and the shard's word of that was faster than its answer; or the offer
            // was on its way before, and the next claim of the task comes to nothing.
            queue.hold(order, again, now);
        }
        match outcome {
            Outcome::Started => queue.dispatched.count(now),
            _ if !waits => {}
            // The poll waited longest already: it stays first.
            Outcome::Stale | Outcome::NoPollers | Outcome::Unspecified => {
                queue.polls.push_front(Waiting { poll, since, until });
            }
            // The shard offers again when it can; until then the poll takes other tasks.
            Outcome::Retry => {
                queue.polls.push_front(Waiting { poll, since, until });
                tracing::debug!(node, group_id, queue = key.name, "a claim was not decided");
            }
        }
        self.matches(&key, now)
    }

    /// Marks a sticky queue as left by its worker and takes its tasks out: offering node, group, task.
    pub fn shut(&mut self, key: &QueueKey) -> Vec<(u64, u64, OfferedTask)> {
        let Some(queue) = self.queues.get_mut(key) else { return Vec::new() };
        queue.shut = true;
        queue.tasks.take().into_iter().map(|offered| (offered.node, offered.group_id, offered.task)).collect()
    }

    /// Forgets polls that are over and queues that nobody uses.
    pub fn expire(&mut self, now: Instant) {
        self.queues.retain(|_, queue| {
            queue.polls.retain(|w| w.until > now);
            queue.backlogs.retain(|_, backlog| now.duration_since(backlog.said) < super::REPEAT * 3);
            let idle = queue.polls.is_empty() && queue.tasks.is_empty() && queue.claimed_tasks.is_empty();
            !idle || now.duration_since(queue.used) < MEMORY
        });
    }

    #[allow(deprecated, reason = "workers before deployments are shown as they present themselves")]
    pub fn describe(&self, key: &QueueKey, now: Instant, wall: UnixNanos) -> QueueDescription {
        let Some(queue) = self.queues.get(key) else { return QueueDescription::default() };
        let oldest_seen = wall - i64::try_from(MEMORY.as_nanos()).unwrap_or(i64::MAX);
        let pollers =
            queue.pollers.iter().filter(|(_, (at, _))| *at >= oldest_seen).map(|(identity, (at, poll))| PollerInfo {
                last_access_time: Some(timestamp(*at)),
                identity: identity.clone(),
                rate_per_second: 100_000.0,
                worker_version_capabilities: poll.version.clone(),
                deployment_options: poll.deployment.clone(),
            });
        let count: u64 = queue.backlogs.values().map(|b| b.count).sum();
        let oldest = queue.backlogs.values().filter_map(|b| b.oldest).min();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let in_all = stats(count, oldest, wall);
        let only = queue.tasks.by_priority().count() <= 1;
        let by_priority = queue.tasks.by_priority().map(|(priority, held, heads)| {
            // What is held tells the levels apart; all of a queue with one level is of that level.
            let count = if only { count } else { i64::try_from(held).unwrap_or(i64::MAX) };
            let oldest = heads.iter().map(|order| order.scheduled).min();
            (i32::try_from(priority).unwrap_or(i32::MAX), stats(count, oldest, wall))
        });
        let (rate, source) = queue.effective_rate();
        QueueDescription {
            pollers: pollers.collect(),
            stats: Some(TaskQueueStats {
                tasks_add_rate: queue.added.per_second(now),
                tasks_dispatch_rate: queue.dispatched.per_second(now),
                rate_limiting_active: queue.limited.is_some_and(|at| now.duration_since(at) < Meter::SPAN),
                ..in_all
            }),
            stats_by_priority: by_priority.collect(),
            rate: rate.map(|rate| rate as f32),
            rate_source: source.into(),
            polled_lately: !queue.pollers.is_empty() && now.duration_since(queue.last_poll) < LATELY,
        }
    }

    fn queue(&mut self, key: &QueueKey, now: Instant) -> Option<&mut Queue> {
        if !self.queues.contains_key(key) {
            if self.queues.len() >= QUEUES_MAX {
                return None;
            }
            let mut queue = Queue::new(now);
            queue.configure(config_of(&self.configs, key), now);
            self.queues.insert(key.clone(), queue);
        }
        self.queues.get_mut(key)
    }
}

impl Queue {
    fn new(now: Instant) -> Self {
        Self {
            polls: VecDeque::new(),
            tasks: Fair::default(),
            claimed_polls: HashSet::new(),
            claimed_tasks: HashMap::new(),
            pollers: HashMap::new(),
            backlogs: HashMap::new(),
            config: None,
            asked_rate: None,
            rate: None,
            key_rates: HashMap::new(),
            added: Meter::new(now),
            dispatched: Meter::new(now),
            limited: None,
            throttled: false,
            scaling: Scaling::new(now),
            clock: (now, 0),
            used: now,
            // A new broker does not know yet who polls.
            last_poll: now,
            shut: false,
        }
    }

    fn note_poll(&mut self, poll: &Poll, now: Instant, wall: UnixNanos) {
        self.used = now;
        self.clock = (now, wall);
        self.last_poll = now;
        self.shut = false;
        if self.pollers.len() < POLLERS_MAX || self.pollers.contains_key(&poll.identity) {
            self.pollers.insert(poll.identity.clone(), (wall, poll.clone()));
        } else if let Some(oldest) = self.pollers.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| id.clone()) {
            self.pollers.remove(&oldest);
            self.pollers.insert(poll.identity.clone(), (wall, poll.clone()));
        }
    }

    fn configure(&mut self, config: Option<Arc<TaskQueueConfig>>, now: Instant) {
        self.config = config;
        self.key_rates.clear();
        // Another limit begins with what it lets go at once.
        self.rate = None;
        self.set_rate(now);
    }

    /// What operators set goes before what a worker asked for.
    fn effective_rate(&self) -> (Option<f64>, RateLimitSource) {
        let set = self.config.as_ref().and_then(|config| rate_of(config.queue_rate_limit.as_ref()));
        match (set, self.asked_rate) {
            (Some(set), _) => (Some(set), RateLimitSource::Api),
            (None, Some(asked)) => (Some(asked), RateLimitSource::Worker),
            (None, None) => (None, RateLimitSource::System),
        }
    }

    fn set_rate(&mut self, now: Instant) {
        match (self.effective_rate().0, &mut self.rate) {
            (Some(per_second), Some(rate)) => rate.set(per_second, now),
            (Some(per_second), None) => self.rate = Some(Rate::new(per_second, now)),
            (None, _) => self.rate = None,
        }
    }

    /// The most urgent task that its fairness key lets go, taken out.
    fn next(&mut self, now: Instant) -> Next<TaskOrder, Offered> {
        let config = self.config.clone().unwrap_or_default();
        let per_key = rate_of(config.fairness_keys_rate_limit_default.as_ref());
        let set = |key: &str| config.fairness_weight_overrides.get(key).copied();
        let weight = |key: &str, offered: &Offered| match set(key).unwrap_or(offered.task.fairness_weight) {
            weight if weight > 0.0 => f64::from(weight),
            _ => 1.0,
        };
        let rates = &mut self.key_rates;
        let next = self.tasks.next(weight, |key| {
            let per_second = per_key? * f64::from(set(key).filter(|weight| *weight > 0.0).unwrap_or(1.0));
            let rate = rates.entry(key.to_owned()).or_insert_with(|| Rate::new(per_second, now));
            rate.pause(now)
        });
        if let Next::Task(_, offered) = &next
            && let Some(rate) = rates.get_mut(&offered.task.fairness_key)
            && let Err(pause) = rate.take(now)
        {
            tracing::debug!(?pause, "a fairness key goes over its rate");
        }
        if rates.len() > KEY_RATES_MAX {
            rates.clear();
        }
        next
    }

    /// Pairs polls with tasks; also how long the rate holds the next task back, when nobody knows yet.
    fn matches(&mut self, key: &QueueKey, now: Instant) -> (Vec<Match>, Option<Duration>) {
        let mut matches = Vec::new();
        while !self.tasks.is_empty() {
            let Some(waiting) = self.polls.pop_front() else { break };
            if waiting.until <= now {
                continue;
            }
            let next = match self.rate.as_mut().and_then(|rate| rate.pause(now)) {
                Some(pause) => Next::Held(pause),
                None => self.next(now),
            };
            let (order, offered) = match next {
                Next::Task(order, offered) => (order, offered),
                Next::Held(pause) => {
                    self.polls.push_front(waiting);
                    self.limited = Some(now);
                    let told = std::mem::replace(&mut self.throttled, true);
                    return (matches, (!told).then_some(pause));
                }
                Next::Nothing => {
                    self.polls.push_front(waiting);
                    break;
                }
            };
            if let Some(rate) = &mut self.rate
                && let Err(pause) = rate.take(now)
            {
                tracing::debug!(?pause, queue = key.name, "a queue goes over its rate");
            }
            self.claimed_polls.insert((waiting.poll.node_id, waiting.poll.poll_id));
            self.claimed_tasks.insert(order, None);
            let (backlog_count, poller_delta) = (self.backlog_left(), self.advice(waiting.since, now));
            matches.push(Match {
                queue: key.clone(),
                poll: waiting.poll,
                task: offered.task,
                node: offered.node,
                group_id: offered.group_id,
                backlog_count,
                poller_delta,
                since: waiting.since,
                until: waiting.until,
            });
        }
        (matches, None)
    }

    fn hold(&mut self, order: TaskOrder, offered: Offered, now: Instant) {
        // The later offer knows better who leads the shard.
        let (priority, fairness_key) = (offered.task.priority, offered.task.fairness_key.clone());
        if self.tasks.insert(priority, &fairness_key, order, offered) {
            self.added.count(now);
        }
        if self.tasks.len() > TASKS_MAX {
            self.tasks.pop_last();
        }
    }

    /// Tasks that wait besides those that are being matched, as far as is known.
    fn backlog_left(&self) -> i64 {
        let held = self.tasks.len() as u64;
        let said: u64 = self.backlogs.values().map(|backlog| backlog.count).sum();
        let claimed = self.claimed_tasks.len() as u64;
        i64::try_from(if held == 0 { 0 } else { held.max(said.saturating_sub(claimed)) }).unwrap_or(i64::MAX)
    }

    fn advice(&mut self, since: Instant, now: Instant) -> i32 {
        let (at, wall) = self.clock;
        let passed = i64::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(i64::MAX);
        let oldest = self.tasks.heads().map(|order| order.scheduled).min();
        let age = oldest.map(|oldest| wall.saturating_add(passed) - oldest);
        let age = age.map(|age| Duration::from_nanos(u64::try_from(age).unwrap_or(0)));
        self.scaling.advice(now.saturating_duration_since(since), age, now)
    }
}

fn config_of(configs: &QueueConfigs, key: &QueueKey) -> Option<Arc<TaskQueueConfig>> {
    if configs.is_empty() {
        return None;
    }
    configs.get(&(key.namespace_id.clone(), key.kind, key.name.clone())).cloned()
}

/// The rate that is set, if one is.
fn rate_of(limit: Option<&RateLimitConfig>) -> Option<f64> {
    limit.and_then(|limit| limit.rate_limit.as_ref()).map(|rate| f64::from(rate.requests_per_second))
}

fn stats(count: i64, oldest: Option<UnixNanos>, wall: UnixNanos) -> TaskQueueStats {
    let age = oldest.map_or(0, |oldest| (wall - oldest).max(0));
    TaskQueueStats {
        approximate_backlog_count: count,
        approximate_backlog_age: Some(bristlecone_machine::stamp::duration(age)),
        ..TaskQueueStats::default()
    }
}

impl TaskOrder {
    fn of(task: &OfferedTask) -> Self {
        Self {
            priority: task.priority,
            scheduled: task.scheduled_time.as_ref().map_or(0, nanos),
            run_id: task.run_id.clone(),
            event: task.scheduled_event_id,
            query: task.query_id,
            attempt: task.attempt,
            stamp: task.stamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::taskqueue::v1::RateLimit;

    fn key() -> QueueKey {
        QueueKey { namespace_id: "ns".into(), name: "q".into(), kind: 1 }
    }

    fn poll(id: u64, left_ms: u64) -> PollRegister {
        let poll = Poll { node_id: 7, poll_id: id, identity: format!("worker-{id}"), ..Poll::default() };
        PollRegister { queue: Some(key()), poll: Some(poll), left_ms }
    }

    fn task(run: &str, priority: u32, scheduled: i64) -> OfferedTask {
        OfferedTask {
            run_id: run.into(),
            priority,
            scheduled_time: Some(timestamp(scheduled)),
            ..OfferedTask::default()
        }
    }

    fn offer(tasks: Vec<OfferedTask>) -> Offer {
        Offer { queue: Some(key()), group_id: 2, backlog_count: tasks.len() as u64, tasks, ..Offer::default() }
    }

    #[test]
    fn urgent_tasks_go_first_and_the_longest_waiting_poll_gets_them() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        let tasks = vec![task("late", 3, 20), task("early", 3, 10), task("urgent", 1, 30)];
        assert!(brokers.offer(1, offer(tasks), now).0.is_empty());
        let mut served = Vec::new();
        for id in 1..=3 {
            for matched in brokers.register(poll(id, 1_000), now, 0) {
                served.push((matched.poll.poll_id, matched.task.run_id.clone()));
            }
        }
        assert_eq!(served, [(1, "urgent".into()), (2, "early".into()), (3, "late".into())]);
    }

    #[test]
    fn repeated_offers_and_registrations_change_nothing() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.register(poll(1, 1_000), now, 0);
        brokers.register(poll(1, 1_000), now, 0);
        let (matches, _) = brokers.offer(1, offer(vec![task("a", 3, 1)]), now);
        let [matched] = <[Match; 1]>::try_from(matches).expect("one poll, one task");
        // While the claim is under way neither is matched again.
        assert!(brokers.register(poll(1, 1_000), now, 0).is_empty());
        assert!(brokers.offer(1, offer(vec![task("a", 3, 1)]), now).0.is_empty());
        // A stale task is dropped; the poll still waits and takes the next one.
        assert!(brokers.settle(matched, Outcome::Stale, now).is_empty());
        assert_eq!(brokers.offer(1, offer(vec![task("b", 3, 2)]), now).0.len(), 1);
    }

    #[test]
    fn a_task_that_is_given_back_before_its_match_is_settled_is_not_forgotten() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.register(poll(1, 60_000), now, 0);
        let (matches, _) = brokers.offer(1, offer(vec![task("a", 3, 1)]), now);
        let [matched] = <[Match; 1]>::try_from(matches).expect("one poll, one task");
        brokers.cancel(&key(), 7, &[1]);
        // Its poll was gone when it came: the shard has taken the start back, and offers the task again.
        assert!(brokers.offer(1, offer(vec![task("a", 3, 1)]), now).0.is_empty());
        assert!(brokers.settle(matched, Outcome::Started, now).is_empty());
        let matches = brokers.register(poll(2, 60_000), now, 0);
        assert_eq!(matches.iter().map(|matched| matched.task.run_id.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_poll_that_ends_during_its_match_does_not_come_back() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.register(poll(1, 60_000), now, 0);
        let (matches, _) = brokers.offer(1, offer(vec![task("a", 3, 1)]), now);
        let [matched] = <[Match; 1]>::try_from(matches).expect("one poll, one task");
        brokers.cancel(&key(), 7, &[1]);
        assert!(brokers.settle(matched, Outcome::Stale, now).is_empty());
        assert!(brokers.offer(1, offer(vec![task("b", 3, 2)]), now).0.is_empty());
        assert_eq!(brokers.register(poll(2, 60_000), now, 0).len(), 1);
    }

    #[test]
    fn a_rate_holds_tasks_back_and_says_so_once() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.offer(1, offer(vec![task("a", 3, 1), task("b", 3, 2), task("c", 3, 3)]), now);
        let slow = |id| {
            let mut register = poll(id, 60_000);
            register.poll.as_mut().expect("it has one").tasks_per_second_max = Some(1.0);
            register
        };
        assert_eq!(brokers.register(slow(1), now, 0).len(), 1);
        assert!(brokers.take_throttled().is_empty());
        assert!(brokers.register(slow(2), now, 0).is_empty());
        assert!(brokers.register(slow(3), now, 0).is_empty());
        assert_eq!(brokers.take_throttled(), [(key(), Duration::from_secs(1))]);
        let later = now + Duration::from_secs(1);
        let served = brokers.unthrottle(&key(), later);
        assert_eq!(served.iter().map(|m| (m.poll.poll_id, m.task.run_id.as_str())).collect::<Vec<_>>(), [(2, "b")]);
        assert_eq!(brokers.take_throttled().len(), 1, "the third waits for the next second");
    }

    #[test]
    fn a_worker_hears_whether_more_polls_would_help() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.register(poll(1, 60_000), now, 0);
        let later = now + Duration::from_secs(2);
        let (matches, _) = brokers.offer(1, offer(vec![task("a", 3, 1), task("b", 3, 2)]), later);
        assert_eq!(matches.iter().map(|m| (m.poller_delta, m.backlog_count)).collect::<Vec<_>>(), [(-1, 1)]);
        let matches = brokers.register(poll(2, 60_000), later, 10_000_000_000);
        assert_eq!(matches.iter().map(|m| (m.poller_delta, m.backlog_count)).collect::<Vec<_>>(), [(0, 0)]);
        brokers.offer(1, offer(vec![task("c", 3, 1), task("d", 3, 2)]), later);
        let matches = brokers.register(poll(3, 60_000), later, 10_000_000_000);
        assert_eq!(matches.iter().map(|m| m.poller_delta).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_poll_that_is_over_gets_nothing() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.register(poll(1, 5), now, 0);
        brokers.register(poll(2, 5_000), now, 0);
        brokers.register(poll(3, 5_000), now, 0);
        brokers.cancel(&key(), 7, &[2]);
        let later = now + Duration::from_millis(10);
        let (matches, _) = brokers.offer(1, offer(vec![task("a", 3, 1)]), later);
        assert_eq!(matches.iter().map(|m| m.poll.poll_id).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_sticky_task_without_a_worker_goes_back() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        let sticky = || OfferedTask { sticky: true, ..task("a", 3, 1) };
        // A broker that has just come up waits for the workers to show up.
        assert!(brokers.offer(1, offer(vec![sticky()]), now).1.is_empty());
        assert_eq!(brokers.shut(&key()).len(), 1);
        assert_eq!(brokers.offer(1, offer(vec![sticky()]), now).1.len(), 1);
        brokers.register(poll(1, 60_000), now, 0);
        let (matches, orphans) = brokers.offer(1, offer(vec![sticky()]), now);
        assert!(orphans.is_empty());
        // While the worker may still get the task it is nobody else's; afterwards nobody polls for long.
        for matched in matches {
            assert!(brokers.settle(matched, Outcome::Started, now).is_empty());
        }
        let later = now + STICKY_IDLE + Duration::from_secs(1);
        assert_eq!(brokers.offer(1, offer(vec![sticky()]), later).1.len(), 1);
    }

    fn configs(queue_rate: Option<f32>, key_rate: Option<f32>) -> QueueConfigs {
        let limit = |rate: f32| RateLimitConfig {
            rate_limit: Some(RateLimit { requests_per_second: rate }),
            ..RateLimitConfig::default()
        };
        let config = TaskQueueConfig {
            queue_rate_limit: queue_rate.map(limit),
            fairness_keys_rate_limit_default: key_rate.map(limit),
            fairness_weight_overrides: [("heavy".to_owned(), 3.0)].into(),
        };
        let key = key();
        Arc::new([((key.namespace_id, key.kind, key.name), Arc::new(config))].into())
    }

    #[test]
    fn what_operators_set_goes_before_what_a_worker_asked_for() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        let mut register = poll(1, 1_000);
        register.poll.as_mut().expect("a poll").tasks_per_second_max = Some(5.0);
        assert!(brokers.register(register, now, 0).is_empty());
        let described = brokers.describe(&key(), now, 0);
        assert_eq!((described.rate, described.rate_source), (Some(5.0), RateLimitSource::Worker as i32));
        assert!(brokers.configure(&configs(Some(0.0), None), now).is_empty());
        assert!(brokers.offer(1, offer(vec![task("a", 3, 10)]), now).0.is_empty(), "nothing goes");
        let described = brokers.describe(&key(), now, 0);
        assert_eq!((described.rate, described.rate_source), (Some(0.0), RateLimitSource::Api as i32));
        assert!(described.stats.expect("known").rate_limiting_active);
        assert_eq!(brokers.configure(&configs(None, None), now).len(), 1, "the worker's limit holds again");
        assert_eq!(brokers.describe(&key(), now, 0).rate, Some(5.0));
    }

    #[test]
    fn a_fairness_key_has_its_weight_and_its_own_rate() {
        let now = Instant::now();
        let mut brokers = Brokers::default();
        brokers.configure(&configs(None, Some(1.0)), now);
        let of = |key: &str, n: i64| OfferedTask { fairness_key: key.into(), ..task(&format!("{key}{n}"), 3, n) };
        let tasks = (0..6).flat_map(|n| [of("heavy", n), of("light", n)]).collect();
        brokers.offer(1, offer(tasks), now);
        let mut served = Vec::new();
        for id in 1..=12 {
            let matches = brokers.register(poll(id, 1_000), now, 0);
            served.extend(matches.into_iter().map(|matched| matched.task.fairness_key));
        }
        let count = |key: &str| served.iter().filter(|served| *served == key).count();
        assert_eq!((count("heavy"), count("light")), (3, 1), "a second's worth of each: {served:?}");
    }
}
