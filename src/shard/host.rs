//! One replica of a shard on this node: while it leads, epoch after epoch.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::QueueKey;
use bristlecone_raft::{Epoch, Group};
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::Clock;
use bristlecone_storage::state::keys::{self, Slot};
use bristlecone_storage::state::{Direction, Error, Read};
use prost::Message;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::actor::{Actor, Over, ShardTime, refuse};
use super::backlog::{self, Backlog};
use super::commit::Pending;
use super::deadlines::{self, Deadlines};
use super::live::Chains;
use super::mailbox::Mailbox;
use super::outbox::Outbox;
use super::queries::Queries;
use super::retention;
use super::{CallError, ChainKey, Shard, Surroundings};

/// How far ahead deadlines are read at the beginning of an epoch.
const HORIZON_NANOS: i64 = 60_000_000_000;

/// Runs the epochs of one replica.
pub struct Host {
    around: Arc<Surroundings>,
    group: Group,
    mailbox: Mailbox,
    reoffer: Arc<Notify>,
    leads: watch::Sender<bool>,
    stop: watch::Receiver<bool>,
}

pub fn new(group: Group, around: Arc<Surroundings>) -> (Shard, Host) {
    let mailbox = Mailbox::default();
    let reoffer = Arc::new(Notify::new());
    let (leads, leading) = watch::channel(false);
    let (stopping, stop) = watch::channel(false);
    let shard = Shard {
        group: group.clone(),
        mailbox: mailbox.clone(),
        reoffer: Arc::clone(&reoffer),
        leads: leading,
        stop: Arc::new(stopping),
    };
    (shard, Host { around, group, mailbox, reoffer, leads, stop })
}

impl Host {
    /// Runs until the group stops.
    pub async fn run(mut self) {
        let mut leadership = self.group.leadership();
        loop {
            let leads = leadership.borrow_and_update().is_local;
            // With a wrong clock it would fire timers early: then it waits until the leadership has gone elsewhere.
            if leads && !*self.stop.borrow() && self.around.clock_is_good() {
                self.epoch().await;
            }
            tokio::select! {
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = self.stop.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                // An epoch that ended while this node still leads is followed by another.
                () = tokio::time::sleep(Duration::from_millis(20)), if leads && !*self.stop.borrow() => {}
            }
        }
    }

    async fn epoch(&mut self) {
        let epoch = match self.group.begin().await {
            Ok(epoch) => epoch,
            Err(error) => {
                tracing::debug!(group = self.group.id(), %error, "no epoch");
                return;
            }
        };
        let started = Instant::now();
        let Some(mut actor) = self.recover(epoch).await else { return };
        self.leads.send_replace(true);
        tracing::info!(
            group = self.group.id(),
            term = epoch.id().term,
            restart = epoch.id().restart,
            ready_ms = started.elapsed().as_millis(),
            "leads the shard"
        );
        let over = actor.run().await;
        self.leads.send_replace(false);
        tracing::info!(group = self.group.id(), reason = %over, "the epoch is over");
        let outcome = match over {
            Over::Handover | Over::NotLeader => CallError::NotLeader { hint: self.group.leadership().borrow().leader },
            Over::Unknown | Over::Storage => CallError::Unknown,
        };
        actor.fail(&outcome);
        for mail in self.mailbox.drain() {
            refuse(mail, CallError::NotLeader { hint: None });
        }
    }

    /// Reads what the actor keeps in memory: deadlines, backlogs, effects under way.
    async fn recover(&self, epoch: Epoch) -> Option<Actor> {
        let extent = self.group.extent()?;
        let slots = Slot::try_from(extent.first_slot).ok()?..Slot::try_from(extent.end_slot).ok()?;
        let mut time = ShardTime::new(epoch.time);
        let now = time.read(self.around.clocks.wall());
        let store = Arc::clone(&self.around.store);
        let range = slots.clone();
        let read = self.around.tasks.blocking(move || Recovered::read(&*store, range, now)).await;
        let recovered = match read {
            Ok(recovered) => recovered,
            Err(error) => {
                self.around.unreadable(&error);
                return None;
            }
        };
        let mut backlog = Backlog::default();
        backlog.found(recovered.tasks);
        for (queue, count) in recovered.more_tasks {
            backlog.counted(queue, count);
        }
        let mut deadlines = Deadlines::default();
        deadlines.found(recovered.deadlines, ChainKey::of);
        let mut outbox = Outbox::default();
        let sends = if planted::has(Bug::OutboxForgotten) { Vec::new() } else { recovered.sends };
        for (sender, sequence, send) in sends {
            outbox.added(&sender, sequence, send);
        }
        let first_query = self.around.entropy.next() as u64;
        Some(Actor {
            around: Arc::clone(&self.around),
            group: self.group.clone(),
            mailbox: self.mailbox.clone(),
            reoffer: Arc::clone(&self.reoffer),
            slots,
            epoch,
            number: 0,
            time,
            chains: Chains::new(self.around.chains_max),
            ready: Default::default(),
            pending: Pending::default(),
            mends: VecDeque::new(),
            deadlines,
            backlog,
            outbox,
            queries: Queries::new(first_query),
            update_waits: Default::default(),
            events: mpsc::unbounded_channel(),
            expire_at: Instant::now(),
            // Not at once: a new leader has other things to do first.
            sweep_at: Some(Instant::now() + retention::EVERY),
            refilling: Vec::new(),
            stop: self.stop.clone(),
        })
    }
}

struct Recovered {
    tasks: Vec<backlog::Row>,
    more_tasks: HashMap<QueueKey, u64>,
    deadlines: deadlines::Found,
    sends: Vec<(ChainKey, u64, bristlecone_proto::chain::Send)>,
}

impl Recovered {
    fn read(store: &(impl Read + ?Sized), slots: Range<Slot>, now: i64) -> Result<Self, Error> {
        let slots: Vec<Slot> = slots.collect();
        let (tasks, more_tasks) = backlog::scan(store, &slots)?;
        let deadlines = deadlines::scan(store, &slots, now + HORIZON_NANOS)?;
        let mut sends = Vec::new();
        for slot in slots {
            store.scan(&keys::outbox(slot), Direction::Forward, &mut |key, value| {
                if let Ok((_, keys::Key::Outbox { namespace, workflow, sequence })) = keys::Key::parse(key)
                    && let Ok(send) = bristlecone_proto::chain::Send::decode(value)
                {
                    sends.push((ChainKey::new(&namespace.to_string(), &workflow), sequence, send));
                }
                std::ops::ControlFlow::Continue(())
            })?;
        }
        Ok(Self { tasks, more_tasks, deadlines, sends })
    }
}
