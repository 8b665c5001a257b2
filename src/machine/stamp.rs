//! What comes in from outside with each input: time, randomness, limits, the namespace's settings.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use prost_types::Timestamp;

use crate::rules::Rule;

/// Unix time in nanoseconds. Shard time never runs backwards.
pub type UnixNanos = i64;

/// The outside world at the moment of a decision.
#[derive(Debug, Clone)]
pub struct Stamp<'a> {
    pub now: UnixNanos,
    /// Fresh random bits for this input; all ids that the step invents derive from them.
    pub seed: u128,
    pub limits: &'a Limits,
    pub namespace: &'a Namespace,
    /// The namespaces that exist, by name, for commands that name another one: name to id.
    pub namespaces: &'a dyn NamespaceLookup,
    /// Milliseconds until the caller gives up (0: unknown).
    pub caller_timeout_ms: u64,
}

/// Finds namespaces by name.
pub trait NamespaceLookup: core::fmt::Debug {
    /// Id of a namespace that exists and is not deleted.
    fn id_of(&self, name: &str) -> Option<String>;
}

/// What a step has to know of its chain's namespace.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    pub id: String,
    pub name: String,
    /// Binary checksums that may not complete workflow tasks.
    pub bad_binaries: BTreeSet<String>,
    /// Name to `IndexedValueType` of the custom search attributes.
    pub search_attributes: BTreeMap<String, i32>,
    /// How long closed runs are kept, nanoseconds; 0: unknown.
    pub retention: i64,
    /// Workflow rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
}

/// Limits and constants of behaviour, with the defaults of the API's original server
/// (its dynamic configuration keys stand beside each).
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of one id, name or type (`limit.maxIDLength`).
    pub id_bytes_max: usize,
    /// Bytes of one payload (`limit.blobSize.error`).
    pub blob_bytes_max: usize,
    /// Bytes of a memo (`limit.memoSize.error`).
    pub memo_bytes_max: usize,
    /// Bytes of a run's history (`limit.historySize.error`).
    pub history_bytes_max: i64,
    /// Events of a run's history (`limit.historyCount.error`).
    pub history_events_max: i64,
    /// Bytes of what a run waits for, memo and search attributes included (`limit.mutableStateSize.error`).
    pub state_bytes_max: i64,
    /// Bytes that one step may write of a run (`system.transactionSizeLimit`).
    pub transaction_bytes_max: i64,
    /// From here on continue-as-new is suggested (`limit.historySize.suggestContinueAsNew`).
    pub history_bytes_suggest: i64,
    /// Likewise (`limit.historyCount.suggestContinueAsNew`).
    pub history_events_suggest: i64,
    /// Pending activities, children, external signals and external cancellations of a run
    /// (`limit.numPending….error`).
    pub pending_activities_max: usize,
    pub pending_children_max: usize,
    pub pending_signals_max: usize,
    pub pending_cancels_max: usize,
    /// Signals that a run takes in its life (`history.maximumSignalsPerExecution`).
    pub signals_max: i64,
    /// Buffered events, and their bytes (`history.maximumBufferedEventsBatch`, `…SizeInBytes`).
    pub buffered_events_max: i64,
    pub buffered_bytes_max: i64,
    /// Bytes of a failure that is kept with a pending activity (`limit.mutableStateActivityFailureSize.error`).
    pub activity_failure_bytes_max: usize,
    /// Search attributes: how many, bytes of one value, bytes in all (`frontend.searchAttributes…`).
    pub search_attributes_max: usize,
    pub search_attribute_bytes_max: usize,
    pub search_attributes_bytes_max: usize,
    /// Default and greatest start-to-close timeout of a workflow task, milliseconds.
    pub workflow_task_timeout_ms_default: i64,
    pub workflow_task_timeout_ms_max: i64,
    /// Greatest backoff added to a workflow task's timeout, milliseconds (`history.workflowTaskRetryMaxInterval`).
    pub workflow_task_retry_ms_max: i64,
    /// How long a worker may heartbeat with one workflow task, milliseconds (`history.workflowTaskHeartbeatTimeout`).
    pub workflow_task_heartbeat_ms_max: i64,
    /// Age at which a soft start is made durable, milliseconds.
    pub soft_start_ms_max: i64,
    /// Buffered queries of a run (`history.MaxBufferedQueryCount`).
    pub buffered_queries_max: usize,
    /// Updates of a run that are not completed, and the bytes of their requests (`history.maxInFlightUpdates`,
    /// `history.maxInFlightUpdatePayloads`); 0: no limit.
    pub updates_in_flight_max: usize,
    pub updates_in_flight_bytes_max: usize,
    /// Updates of a run in its life (`history.maxTotalUpdates`), 0: no limit; and from how many thousandths of it
    /// on continue-as-new is suggested (`history.maxTotalUpdates.suggestContinueAsNewThreshold`).
    pub updates_max: usize,
    pub updates_suggest: u32,
    /// How long a workflow task that is in memory only waits on a normal queue, milliseconds.
    pub speculative_wait_ms_max: i64,
    /// Events since the last workflow task with which one that only rejected updates still leaves no trace
    /// (`history.discardSpeculativeWorkflowTaskMaximumEventsCount`).
    pub speculative_events_max: i64,
    /// Auto reset points that are kept (`history.historyMaxAutoResetPoints`).
    pub reset_points_max: usize,
    /// User metadata: bytes of the summary and of the details.
    pub summary_bytes_max: usize,
    pub details_bytes_max: usize,
    /// Links of one request, and bytes of one (`frontend.maxlinksPerRequest`, `frontend.linkMaxSize`).
    pub links_max: usize,
    pub link_bytes_max: usize,
    /// Completion callbacks of a run (`system.maxCallbacksPerWorkflow`).
    pub callbacks_max: usize,
    /// Eager dispatch of activities (`system.enableActivityEagerExecution`).
    pub eager_activities: bool,
    /// Batch operations: whether there are any (`frontend.enableBatcher`), jobs of a namespace that run at once
    /// (`frontend.MaxConcurrentBatchOperationPerNamespace`), operations per second of a job and how many at once
    /// (`worker.batcherRPS`, `worker.batcherConcurrency`).
    pub batch_enabled: bool,
    pub batch_jobs_max: i64,
    pub batch_rps: u32,
    pub batch_concurrency: u32,
    /// Whether workflows may be paused (`frontend.WorkflowPauseEnabled`).
    pub pause_enabled: bool,
    /// Least spacing of runs of one chain, milliseconds.
    pub successor_spacing_ms_min: i64,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Self {
            id_bytes_max: 1000,
            blob_bytes_max: 2 * MIB,
            memo_bytes_max: 2 * MIB,
            history_bytes_max: 50 * MIB as i64,
            history_events_max: 51_200,
            state_bytes_max: 8 * MIB as i64,
            transaction_bytes_max: 4 * MIB as i64,
            history_bytes_suggest: 4 * MIB as i64,
            history_events_suggest: 4_096,
            pending_activities_max: 2_000,
            pending_children_max: 2_000,
            pending_signals_max: 2_000,
            pending_cancels_max: 2_000,
            signals_max: 10_000,
            buffered_events_max: 100,
            buffered_bytes_max: 2 * MIB as i64,
            activity_failure_bytes_max: 4 * KIB,
            search_attributes_max: 100,
            search_attribute_bytes_max: 2 * KIB,
            search_attributes_bytes_max: 40 * KIB,
            workflow_task_timeout_ms_default: 10_000,
            workflow_task_timeout_ms_max: 120_000,
            workflow_task_retry_ms_max: 600_000,
            workflow_task_heartbeat_ms_max: 1_800_000,
            soft_start_ms_max: 500,
            buffered_queries_max: 1,
            updates_in_flight_max: 10,
            updates_in_flight_bytes_max: 20 * MIB,
            updates_max: 2_000,
            updates_suggest: 900,
            speculative_wait_ms_max: 5_000,
            speculative_events_max: 10,
            reset_points_max: 20,
            summary_bytes_max: 400,
            details_bytes_max: 20_000,
            links_max: 10,
            link_bytes_max: 4_000,
            callbacks_max: 32,
            eager_activities: true,
            batch_enabled: true,
            batch_jobs_max: 1,
            batch_rps: 50,
            batch_concurrency: 5,
            pause_enabled: false,
            successor_spacing_ms_min: 1_000,
        }
    }
}

/// Unix nanoseconds as the API's timestamp.
pub fn timestamp(nanos: UnixNanos) -> Timestamp {
    const SECOND: i64 = 1_000_000_000;
    Timestamp { seconds: nanos.div_euclid(SECOND), nanos: nanos.rem_euclid(SECOND) as i32 }
}

/// The API's timestamp as Unix nanoseconds, saturating.
pub fn nanos(timestamp: &Timestamp) -> UnixNanos {
    timestamp.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(timestamp.nanos))
}

/// A duration of the API in nanoseconds, saturating; `None` is 0.
pub fn duration_nanos(duration: Option<&prost_types::Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(d.nanos)))
}

/// Nanoseconds as a duration of the API.
pub fn duration(nanos: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: nanos / 1_000_000_000, nanos: (nanos % 1_000_000_000) as i32 }
}
