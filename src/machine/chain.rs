//! The state that decisions are taken on: a workflow id with the runs that are loaded.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::chain::{ChainId, Send};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::Link;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionStartedEventAttributes};
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;
use bristlecone_proto::temporal::api::update::v1 as update;

use crate::rows::{Rows, Shared};
use crate::schedule::Spec;
use crate::stamp::UnixNanos;

/// A workflow id and whatever of it is loaded.
///
/// `clone` is cheap: runs and their collections are shared until they change.
#[derive(Debug, Clone)]
pub struct Chain {
    pub id: ChainId,
    /// `None`: no run of this id is known (none ever started, or all were removed).
    pub record: Option<record::Chain>,
    /// Loaded runs by run id; see [`crate::load::runs_needed`].
    pub runs: BTreeMap<String, Arc<Run>>,
    /// Outbox rows that wait for their answer, by sequence.
    pub sends: Rows<u64, Send>,
    pub receipts: Rows<ReceiptKey, record::Receipt>,
    /// Set when the chain is a schedule's: then it has no runs.
    pub schedule: Option<Schedule>,
}

/// A schedule, as its three rows tell it.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub definition: Arc<record::Schedule>,
    pub head: Shared<record::ScheduleHead>,
    pub result: Shared<record::ScheduleResult>,
    /// Derived from the definition. An error: it names no times, and why.
    pub spec: Result<Arc<Spec>, String>,
}

/// The sending chain and the sequence of its outbox row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptKey {
    pub namespace_id: String,
    pub workflow_id: String,
    pub sequence: u64,
}

/// One run: what never changes (its first event), its scalars, and a row for each thing that it waits for.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: String,
    pub started: Arc<WorkflowExecutionStartedEventAttributes>,
    /// When it was started, or came into being by a reset.
    pub start_time: UnixNanos,
    /// Earlier than `start_time` after a reset.
    pub first_event_time: UnixNanos,
    /// Links of the first event.
    pub links: Arc<[Link]>,
    /// User metadata of the first event.
    pub user_metadata: Option<Arc<UserMetadata>>,
    pub head: Shared<record::Head>,
    /// Memo and search attributes; loaded and written whole.
    pub fields: Arc<record::Fields>,
    /// By scheduled event id.
    pub activities: Rows<i64, record::Activity>,
    /// By started event id.
    pub timers: Rows<i64, record::Timer>,
    /// By initiated event id.
    pub children: Rows<i64, record::Child>,
    pub external_signals: Rows<i64, record::External>,
    pub external_cancels: Rows<i64, record::External>,
    /// Events without an id yet, by arrival number.
    pub buffered: Rows<i64, HistoryEvent>,
    /// Request ids of the signals that this run took.
    pub signal_requests: Rows<String, ()>,
    /// Updates that history tells of, by update id.
    pub updates: Rows<String, record::Update>,
    /// Scheduled event ids of the pending activities by activity id; derived from `activities`.
    pub activity_ids: Rows<String, i64>,
    /// Started event ids of the pending timers by timer id; derived from `timers`.
    pub timer_ids: Rows<String, i64>,
    /// When the pending activities and timers are due; derived from them, up to date between steps.
    pub due: Rows<Due, ()>,
    /// In memory only: a workflow task is in a worker's hands and nothing depends on it yet.
    pub soft_start: Option<SoftStart>,
    /// In memory only: updates that no worker has accepted yet, in the order of their arrival.
    pub admitted: Vec<Admitted>,
    /// In memory only: the workflow task that was scheduled for updates alone (`draft/speculative.rs`).
    pub speculative: Option<Box<record::WorkflowTask>>,
}

/// When a pending activity or timer needs a [`wake`](crate::Input): the earliest is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    pub at: UnixNanos,
    pub kind: DueKind,
    /// Scheduled event id of the activity, started event id of the timer.
    pub event_id: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DueKind {
    Timer,
    Activity,
}

impl Chain {
    /// A chain of which nothing is stored.
    pub fn new(id: ChainId) -> Self {
        let runs = BTreeMap::new();
        Self { id, record: None, runs, sends: Rows::default(), receipts: Rows::default(), schedule: None }
    }

    /// The current run, when it is loaded.
    pub fn current(&self) -> Option<&Run> {
        let record = self.record.as_ref()?;
        self.runs.get(&record.current_run_id).map(|run| &**run)
    }

    /// Makes the changes of a step part of the settled rows: to be called on [`crate::Step::next`] once
    /// the previous chain is dropped (then nothing is copied).
    pub fn settle(&mut self) {
        self.sends.settle();
        self.receipts.settle();
        for run in self.runs.values_mut() {
            if run.is_changed() {
                Arc::make_mut(run).settle();
            }
        }
    }
}

impl Run {
    /// Whether the run is open.
    pub fn is_running(&self) -> bool {
        use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
        matches!(self.head.status(), Status::Running | Status::Paused)
    }

    pub fn is_paused(&self) -> bool {
        self.head.status == bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus::Paused as i32
    }

    /// Whether the first workflow task waits for a start delay, a cron start or a retry.
    pub fn is_backing_off(&self) -> bool {
        self.head.first_task_backoff_until.is_some()
    }

    /// Whether a workflow task is durably in a worker's hands: then other events wait in the buffer.
    pub fn has_started_task(&self) -> bool {
        self.head.workflow_task.as_ref().is_some_and(|task| task.started_event_id != 0)
    }

    /// The workflow task that waits for a worker or is with one, durable or speculative.
    pub fn pending_task(&self) -> Option<&record::WorkflowTask> {
        self.head.workflow_task.as_ref().or(self.speculative.as_deref())
    }

    fn is_changed(&self) -> bool {
        self.activities.is_changed()
            || self.timers.is_changed()
            || self.children.is_changed()
            || self.external_signals.is_changed()
            || self.external_cancels.is_changed()
            || self.buffered.is_changed()
            || self.signal_requests.is_changed()
            || self.updates.is_changed()
            || self.activity_ids.is_changed()
            || self.timer_ids.is_changed()
            || self.due.is_changed()
    }

    fn settle(&mut self) {
        self.activities.settle();
        self.timers.settle();
        self.children.settle();
        self.external_signals.settle();
        self.external_cancels.settle();
        self.buffered.settle();
        self.signal_requests.settle();
        self.updates.settle();
        self.activity_ids.settle();
        self.timer_ids.settle();
        self.due.settle();
    }
}

/// An update that waits for a worker's verdict.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub id: String,
    pub request: Arc<update::Request>,
    /// A worker has it, with a workflow task.
    pub sent: bool,
}

/// A workflow task's start that is not written yet (the rules stand in `workflow_task/start.rs`).
#[derive(Debug, Clone, PartialEq)]
pub struct SoftStart {
    /// What the worker was told, byte for byte. Its id is virtual when the attempt is a repeated one.
    pub started_event: HistoryEvent,
    pub request_id: String,
    pub identity: String,
    pub at: UnixNanos,
    /// When it has to be written at the latest.
    pub harden_by: UnixNanos,
    /// Transition count of the run when the task was started.
    pub transitions: i64,
}
