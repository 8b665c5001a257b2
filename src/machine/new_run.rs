//! A run that is about to be started: by a client, by a parent, or by the run before it.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::common::v1::{Link, Memo, SearchAttributes};
use bristlecone_proto::temporal::api::history::v1::WorkflowExecutionStartedEventAttributes;
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;
use prost_types::{Duration, Timestamp};

use crate::draft::Draft;
use crate::fold;
use crate::stamp::{Limits, UnixNanos, duration, duration_nanos, timestamp};

/// What [`Draft::create_run`] needs.
#[derive(Debug, Clone)]
pub(crate) struct NewRun {
    pub run_id: String,
    /// With which a repeated start finds this run.
    pub request_id: String,
    pub attributes: WorkflowExecutionStartedEventAttributes,
    pub user_metadata: Option<UserMetadata>,
    pub links: Vec<Link>,
}

/// Schedules the first workflow task, unless it has to wait.
pub(crate) fn first_task(draft: &mut Draft<'_>, run_id: &str) {
    if draft.run(run_id).head.first_task_backoff_until.is_none() {
        draft.schedule_workflow_task(run_id);
    }
}

/// The run timeout, within the execution timeout. 0 is none.
pub(crate) fn run_timeout(run: Option<&Duration>, execution: Option<&Duration>) -> Option<Duration> {
    match (duration_nanos(run), duration_nanos(execution)) {
        (_, 0) => run.copied(),
        (0, execution) => Some(duration(execution)),
        (run_nanos, execution) if run_nanos <= execution => run.copied(),
        (_, execution) => Some(duration(execution)),
    }
}

/// The workflow task timeout: its default when unset, within its maximum and the run timeout.
pub(crate) fn task_timeout(task: Option<&Duration>, run: Option<&Duration>, limits: &Limits) -> Option<Duration> {
    const NANOS_PER_MS: i64 = 1_000_000;
    let asked = match duration_nanos(task) {
        0 => limits.workflow_task_timeout_ms_default.saturating_mul(NANOS_PER_MS),
        asked => asked,
    };
    let most = limits.workflow_task_timeout_ms_max.saturating_mul(NANOS_PER_MS);
    let nanos = match duration_nanos(run) {
        0 => asked.min(most),
        run => asked.min(most).min(run),
    };
    Some(duration(nanos))
}

/// When an execution that starts now has to be over, in whole milliseconds.
pub(crate) fn expiration(now: UnixNanos, execution_timeout: Option<&Duration>) -> Option<Timestamp> {
    const NANOS_PER_MS: i64 = 1_000_000;
    let timeout = duration_nanos(execution_timeout);
    if timeout <= 0 {
        return None;
    }
    let at = now.saturating_add(timeout).saturating_add(NANOS_PER_MS / 2);
    Some(timestamp(at - at.rem_euclid(NANOS_PER_MS)))
}

/// Search attributes without those that say nothing; `None` when none is left.
pub(crate) fn search_attributes(attributes: Option<SearchAttributes>) -> Option<SearchAttributes> {
    let mut attributes = attributes?;
    attributes.indexed_fields.retain(|_, payload| !fold::is_nil(payload));
    (!attributes.indexed_fields.is_empty()).then_some(attributes)
}

/// A memo without the fields that say nothing; `None` when none is left.
pub(crate) fn memo(memo: Option<Memo>) -> Option<Memo> {
    let mut memo = memo?;
    memo.fields.retain(|_, payload| !fold::is_nil(payload));
    (!memo.fields.is_empty()).then_some(memo)
}
