//! The rows in which a chain differs after a step: what the shell has to write.
//!
//! Rows share with the chain what they say, so listing them copies nothing.
//!
//! Keys and encodings are the shell's business (`src/shard/keys.rs`); here stands which rows there are.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::chain::Send;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

use crate::chain::ReceiptKey;
use crate::stamp::UnixNanos;

/// One row to write; `None` removes it.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "made, encoded and dropped within one step")]
pub enum Row {
    Chain(Option<record::Chain>),
    Schedule(Option<Arc<record::Schedule>>),
    ScheduleHead(Option<Arc<record::ScheduleHead>>),
    ScheduleResult(Option<Arc<record::ScheduleResult>>),
    Head {
        run_id: String,
        head: Option<Arc<record::Head>>,
    },
    Fields {
        run_id: String,
        fields: Option<Arc<record::Fields>>,
    },
    Activity {
        run_id: String,
        scheduled_event_id: i64,
        activity: Option<Arc<record::Activity>>,
    },
    Timer {
        run_id: String,
        started_event_id: i64,
        timer: Option<Arc<record::Timer>>,
    },
    Child {
        run_id: String,
        initiated_event_id: i64,
        child: Option<Arc<record::Child>>,
    },
    ExternalSignal {
        run_id: String,
        initiated_event_id: i64,
        external: Option<Arc<record::External>>,
    },
    ExternalCancel {
        run_id: String,
        initiated_event_id: i64,
        external: Option<Arc<record::External>>,
    },
    Buffered {
        run_id: String,
        arrival: i64,
        event: Option<Arc<HistoryEvent>>,
    },
    SignalRequest {
        run_id: String,
        request_id: String,
        seen: bool,
    },
    Update {
        run_id: String,
        update_id: String,
        update: Option<Arc<record::Update>>,
    },
    /// A batch of events; `first_event_id` is the id of the first of them. Batches are never rewritten.
    History {
        run_id: String,
        first_event_id: i64,
        events: Vec<HistoryEvent>,
    },
    Task {
        key: TaskKey,
        task: Option<record::Task>,
    },
    /// The chain's wake-up time.
    Deadline {
        due: UnixNanos,
        armed: bool,
    },
    Send {
        sequence: u64,
        send: Option<Arc<Send>>,
    },
    Receipt {
        key: ReceiptKey,
        receipt: Option<Arc<record::Receipt>>,
    },
    /// What listings show of a run; both are given so that index rows can be moved.
    Visibility {
        run_id: String,
        before: Option<record::Visibility>,
        now: Option<record::Visibility>,
    },
    /// Every row of the run goes (retention, deletion): history batches, closed-run rows, listings.
    /// The namespace is gone: what counts its runs in the chain's slot goes, too.
    ForgetCounts,
    PurgeRun {
        run_id: String,
    },
}

/// Where a task stands in its queue's backlog. It follows from the state of what it is for, so the
/// row is found again without being remembered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskKey {
    pub kind: TaskKind,
    pub queue: String,
    /// 1 (first) to 5; 3 when nothing was asked for.
    pub priority: u8,
    /// When it was scheduled: within a priority the older goes first.
    pub scheduled: UnixNanos,
    pub run_id: String,
    pub scheduled_event_id: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    Workflow,
    Activity,
}
