//! The scenarios: what a workflow of each does, task by task, and what its outcome has to be.
//!
//! # Contract
//! A workflow's decisions follow from its history alone, as any workflow's have to: [`Progress`] counts
//! what happened, [`Plan::decide`] says what comes next.

use std::time::{Duration, SystemTime};

use bristlecone_proto::temporal::api::command::v1::command::Attributes as CommandAttributes;
use bristlecone_proto::temporal::api::command::v1::{
    Command, CompleteWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes, StartTimerCommandAttributes,
};
use bristlecone_proto::temporal::api::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::CommandType;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as EventAttributes;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use bytes::Bytes;
use clap::ValueEnum;

use super::Config;

/// Activities, timers and children that one workflow has.
const SEQUENCE: u64 = 10;
const FAN_OUT: u64 = 100;
/// Signals that one workflow takes: the API's default limit, less a few.
const SIGNALS_MAX: u64 = 9_000;
/// Receivers when signals go to many workflows.
const RECEIVERS: u64 = 1_000;
/// Updates that one workflow takes (the API's default limit is 2,000), and receivers at least: no more than ten may be
/// under way at one workflow.
const UPDATES_MAX: u64 = 1_000;
const UPDATED_MIN: u64 = 100;
const ACTIVITY_TIME: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Starts, and no worker.
    StartOnly,
    /// Workflows that complete with their first task.
    Noop,
    /// One noop workflow at a time.
    Latency,
    /// Workflows with one activity.
    Activity,
    /// Workflows with ten activities, one after the other.
    Activities,
    /// Workflows with a hundred activities at once.
    FanOut,
    /// Signals to one workflow (the next one when it has had 9,000).
    SignalOne,
    /// Signals to a thousand workflows in turn.
    SignalMany,
    /// Workflows that sleep once.
    Timer,
    /// Workflows with a child.
    Child,
    /// Workflows that all start before there is a worker.
    Backlog,
    /// Workflows of several priorities that all start before there is a worker.
    Priorities,
    /// Workflows that wait for a long timer, and are left so.
    Open,
    /// Updates to many workflows, each waited for until its result is there.
    Update,
    /// Pages of lists and counts by status of the workflows that are there.
    Search,
    /// Schedules that are due once each, spread over a minute.
    Schedules,
}

impl Scenario {
    /// Workers run from the beginning.
    pub fn has_workers(self) -> bool {
        !matches!(self, Self::StartOnly | Self::SignalOne | Self::SignalMany | Self::Search) && !self.is_backlog()
    }

    pub fn is_backlog(self) -> bool {
        matches!(self, Self::Backlog | Self::Priorities)
    }

    /// What is measured instead of workflows.
    pub fn calls(self) -> Option<&'static str> {
        match self {
            Self::SignalOne | Self::SignalMany => Some("signal"),
            Self::Update => Some("update"),
            Self::Search => Some("query"),
            _ => None,
        }
    }

    pub fn has_activities(self) -> bool {
        matches!(self, Self::Activity | Self::Activities | Self::FanOut)
    }

    /// A workflow's first task is its only one.
    pub fn has_one_task(self) -> bool {
        matches!(self, Self::Noop | Self::Latency | Self::Schedules) || self.is_backlog()
    }

    /// Each start waits for its workflow's end when the loop is closed.
    pub fn waits(self) -> bool {
        self.has_workers() && self.calls().is_none() && !matches!(self, Self::Open | Self::Schedules)
    }

    /// Its workflows do not close.
    pub fn leaves_open(self) -> bool {
        matches!(self, Self::StartOnly | Self::Open)
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }
}

/// A scenario with its numbers.
#[derive(Debug)]
pub struct Plan {
    pub scenario: Scenario,
    /// Makes the ids of this run its own.
    pub run: String,
    pub queue: String,
    pub payload: Payloads,
    count: u64,
    timer: Duration,
    eager: bool,
    priorities: u64,
    /// When the first schedule is due, in whole seconds since 1970.
    first_due: u64,
    /// Seconds over which schedules are due.
    within: u64,
}

/// What a workflow has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub activities: u64,
    pub timers: u64,
    pub children: u64,
    pub signals: u64,
    pub updates: u64,
    /// Tasks that were completed.
    pub tasks: u64,
}

/// What a workflow does next.
#[derive(Debug, Default)]
pub struct Decision {
    pub commands: Vec<Command>,
    pub completes: bool,
    /// It does nothing more, and stays open.
    pub rests: bool,
}

impl Plan {
    pub fn new(config: &Config) -> Self {
        let run = uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string();
        let run = run.get(..8).unwrap_or(&run).to_string();
        let data: Vec<u8> = std::iter::repeat_n(b'x', config.payload.saturating_sub(2)).collect();
        let data = Bytes::from([b"\"".as_slice(), &data, b"\""].concat());
        let metadata = [("encoding".to_string(), Bytes::from_static(b"json/plain"))].into();
        Self {
            scenario: config.scenario,
            queue: format!("bench-{run}"),
            run,
            payload: Payloads { payloads: vec![Payload { metadata, data, ..Payload::default() }] },
            count: config.count,
            timer: config.timer,
            eager: config.eager,
            priorities: config.priorities,
            first_due: seconds_now() + config.lead.as_secs().max(1),
            within: config.within.as_secs().max(1),
        }
    }

    /// How many workflows are started from outside.
    pub fn workflows(&self) -> u64 {
        match self.scenario {
            Scenario::SignalOne => self.count.div_ceil(SIGNALS_MAX),
            Scenario::SignalMany => self.count.min(RECEIVERS),
            Scenario::Update => self.count.div_ceil(UPDATES_MAX).max(UPDATED_MIN).min(self.count),
            Scenario::Search => 0,
            _ => self.count,
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn workflow_id(&self, number: u64) -> String {
        let id = format!("{}-{number}", self.run);
        match self.scenario {
            // A schedule appends the time for which it starts a workflow.
            Scenario::Schedules => {
                let due = SystemTime::UNIX_EPOCH + Duration::from_secs(self.due(number));
                format!("{id}-{}", jiff::Timestamp::try_from(due).unwrap_or_default())
            }
            _ => id,
        }
    }

    /// The number in a workflow's id; `None` for a child.
    pub fn number(&self, workflow_id: &str) -> Option<u64> {
        let number = workflow_id.strip_prefix(&self.run)?.strip_prefix('-')?;
        match self.scenario {
            Scenario::Schedules => number.split_once('-')?.0.parse().ok(),
            _ => number.parse().ok(),
        }
    }

    /// A schedule's id, which is also what the ids of its workflows begin with.
    pub fn schedule_id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// The second since 1970 in which a schedule is due.
    pub fn due(&self, number: u64) -> u64 {
        self.first_due + number * self.within / self.count
    }

    pub fn until_first_due(&self) -> Duration {
        let first = SystemTime::UNIX_EPOCH + Duration::from_secs(self.first_due);
        first.duration_since(SystemTime::now()).unwrap_or_default()
    }

    /// What a workflow's start asks for, 1 (first) to 5 (last), and beyond, which counts as 5; 0 for nothing.
    pub fn priority(&self, number: u64) -> u64 {
        match self.scenario {
            Scenario::Priorities => number % self.priorities + 1,
            _ => 0,
        }
    }

    /// The receiver of a signal or an update.
    pub fn receiver(&self, call: u64) -> u64 {
        match self.scenario {
            Scenario::SignalOne => call / SIGNALS_MAX,
            _ => call % self.workflows(),
        }
    }

    /// How many signals or updates a receiver gets.
    pub fn calls(&self, number: u64) -> u64 {
        match self.scenario {
            Scenario::SignalOne => SIGNALS_MAX.min(self.count - number * SIGNALS_MAX),
            Scenario::SignalMany | Scenario::Update => {
                let each = self.count / self.workflows();
                each + u64::from(number < self.count % self.workflows())
            }
            _ => 0,
        }
    }

    /// What the workflow does, given what it has seen; a child completes at once.
    pub fn decide(&self, workflow_id: &str, progress: &Progress) -> Decision {
        let Some(number) = self.number(workflow_id) else { return self.complete() };
        match self.scenario {
            Scenario::Activity => self.activities(1, 1, progress),
            Scenario::Activities => self.activities(SEQUENCE, 1, progress),
            Scenario::FanOut => self.activities(FAN_OUT, FAN_OUT, progress),
            Scenario::Timer if progress.timers == 0 => {
                Decision { commands: self.first(progress, timer(self.timer)), ..Decision::default() }
            }
            Scenario::Open => {
                Decision { commands: self.first(progress, timer(self.timer)), rests: true, ..Decision::default() }
            }
            Scenario::Child if progress.children == 0 => {
                Decision { commands: self.first(progress, self.child(workflow_id)), ..Decision::default() }
            }
            // Less than all of them never completes, and more is wrong too.
            Scenario::SignalOne | Scenario::SignalMany if progress.signals != self.calls(number) => Decision::default(),
            Scenario::Update if progress.updates != self.calls(number) => Decision::default(),
            Scenario::StartOnly
            | Scenario::Noop
            | Scenario::Latency
            | Scenario::Backlog
            | Scenario::Priorities
            | Scenario::Update
            | Scenario::Search
            | Scenario::Schedules
            | Scenario::Timer
            | Scenario::Child
            | Scenario::SignalOne
            | Scenario::SignalMany => self.complete(),
        }
    }

    fn activities(&self, all: u64, at_once: u64, progress: &Progress) -> Decision {
        if progress.activities == all {
            return self.complete();
        }
        // A wave is scheduled when the one before is done.
        if !progress.activities.is_multiple_of(at_once) || (progress.activities == 0 && progress.tasks > 0) {
            return Decision::default();
        }
        let commands = (0..at_once).map(|n| self.activity(progress.activities + n)).collect();
        Decision { commands, ..Decision::default() }
    }

    fn first(&self, progress: &Progress, command: Command) -> Vec<Command> {
        if progress.tasks == 0 { vec![command] } else { Vec::new() }
    }

    fn complete(&self) -> Decision {
        let attributes = CompleteWorkflowExecutionCommandAttributes { result: Some(self.payload.clone()) };
        let command = command(
            CommandType::CompleteWorkflowExecution,
            CommandAttributes::CompleteWorkflowExecutionCommandAttributes(attributes),
        );
        Decision { commands: vec![command], completes: true, ..Decision::default() }
    }

    fn activity(&self, number: u64) -> Command {
        let attributes = ScheduleActivityTaskCommandAttributes {
            activity_id: (number + 1).to_string(),
            activity_type: Some(ActivityType { name: "echo".into() }),
            task_queue: Some(self.task_queue()),
            input: Some(self.payload.clone()),
            start_to_close_timeout: prost_types::Duration::try_from(ACTIVITY_TIME).ok(),
            request_eager_execution: self.eager,
            ..ScheduleActivityTaskCommandAttributes::default()
        };
        let attributes = CommandAttributes::ScheduleActivityTaskCommandAttributes(attributes);
        command(CommandType::ScheduleActivityTask, attributes)
    }

    fn child(&self, parent: &str) -> Command {
        let attributes = StartChildWorkflowExecutionCommandAttributes {
            workflow_id: format!("{parent}-child"),
            workflow_type: Some(WorkflowType { name: "bench".into() }),
            task_queue: Some(self.task_queue()),
            input: Some(self.payload.clone()),
            ..StartChildWorkflowExecutionCommandAttributes::default()
        };
        let attributes = CommandAttributes::StartChildWorkflowExecutionCommandAttributes(attributes);
        command(CommandType::StartChildWorkflowExecution, attributes)
    }

    pub fn task_queue(&self) -> TaskQueue {
        TaskQueue { name: self.queue.clone(), ..TaskQueue::default() }
    }
}

impl Progress {
    /// Takes in what happened.
    pub fn see(&mut self, events: &[HistoryEvent]) {
        for event in events {
            match &event.attributes {
                Some(EventAttributes::ActivityTaskCompletedEventAttributes(_)) => self.activities += 1,
                Some(EventAttributes::TimerFiredEventAttributes(_)) => self.timers += 1,
                Some(EventAttributes::ChildWorkflowExecutionCompletedEventAttributes(_)) => self.children += 1,
                Some(EventAttributes::WorkflowExecutionSignaledEventAttributes(_)) => self.signals += 1,
                Some(EventAttributes::WorkflowExecutionUpdateCompletedEventAttributes(_)) => self.updates += 1,
                Some(EventAttributes::WorkflowTaskCompletedEventAttributes(_)) => self.tasks += 1,
                _ => {}
            }
        }
    }
}

fn timer(time: Duration) -> Command {
    let attributes = StartTimerCommandAttributes {
        timer_id: "1".into(),
        start_to_fire_timeout: prost_types::Duration::try_from(time).ok(),
    };
    command(CommandType::StartTimer, CommandAttributes::StartTimerCommandAttributes(attributes))
}

fn seconds_now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

pub fn command(kind: CommandType, attributes: CommandAttributes) -> Command {
    Command { command_type: kind.into(), attributes: Some(attributes), ..Command::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(scenario: Scenario, count: u64) -> Plan {
        Plan {
            scenario,
            run: "r".into(),
            queue: "q".into(),
            payload: Payloads::default(),
            count,
            timer: Duration::from_secs(1),
            eager: false,
            priorities: 10,
            first_due: 1_000_000_000,
            within: 60,
        }
    }

    #[test]
    fn activities_run_in_waves_and_then_the_workflow_completes() {
        let fan = plan(Scenario::FanOut, 1);
        let plan = plan(Scenario::Activities, 1);
        let mut progress = Progress::default();
        for done in 0..SEQUENCE {
            progress.activities = done;
            progress.tasks = done;
            let decision = plan.decide("r-0", &progress);
            assert!(decision.commands.len() == 1 && !decision.completes);
        }
        progress.activities = SEQUENCE;
        assert!(plan.decide("r-0", &progress).completes);
        assert_eq!(fan.decide("r-0", &Progress::default()).commands.len(), 100);
        assert!(fan.decide("r-0", &Progress { tasks: 1, ..Progress::default() }).commands.is_empty());
        assert!(fan.decide("r-0", &Progress { activities: 99, tasks: 2, ..Progress::default() }).commands.is_empty());
        assert!(fan.decide("r-0", &Progress { activities: 100, tasks: 3, ..Progress::default() }).completes);
    }

    #[test]
    fn every_signal_has_one_receiver() {
        for (scenario, count) in [
            (Scenario::SignalOne, 20_000),
            (Scenario::SignalMany, 2_500),
            (Scenario::SignalMany, 10),
            (Scenario::Update, 1_001),
        ] {
            let plan = plan(scenario, count);
            let mut got = vec![0; usize::try_from(plan.workflows()).expect("few")];
            (0..count).for_each(|signal| got[usize::try_from(plan.receiver(signal)).expect("few")] += 1);
            let expected: Vec<u64> = (0..plan.workflows()).map(|number| plan.calls(number)).collect();
            assert_eq!(got, expected);
            let seen = |calls| Progress { signals: calls, updates: calls, ..Progress::default() };
            assert!(plan.decide("r-0", &seen(plan.calls(0))).completes);
            assert!(!plan.decide("r-0", &seen(plan.calls(0) + 1)).completes);
        }
    }

    #[test]
    fn schedules_are_due_within_their_time() {
        let plan = plan(Scenario::Schedules, 120);
        assert_eq!(
            (plan.due(0), plan.due(1), plan.due(2), plan.due(119)),
            (1_000_000_000, 1_000_000_000, 1_000_000_001, 1_000_000_059)
        );
        assert_eq!(plan.workflow_id(2), "r-2-2001-09-09T01:46:41Z");
        assert_eq!((plan.number("r-2-2001-09-09T01:46:41Z"), plan.number("r-2")), (Some(2), None));
    }

    #[test]
    fn a_child_completes_at_once_and_its_parent_afterwards() {
        let plan = plan(Scenario::Child, 1);
        assert!(plan.decide("r-0-child", &Progress::default()).completes);
        assert_eq!(plan.decide("r-0", &Progress::default()).commands.len(), 1);
        assert!(plan.decide("r-0", &Progress { tasks: 1, ..Progress::default() }).commands.is_empty());
        assert!(plan.decide("r-0", &Progress { tasks: 1, children: 1, ..Progress::default() }).completes);
    }
}
