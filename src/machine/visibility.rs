//! What a listing shows of a run.

use bristlecone_proto::chain::ChainId;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::SearchAttributes;

use crate::chain::Run;
use crate::stamp::{duration_nanos, timestamp};
use crate::{payload, standalone};

pub fn of(chain: &ChainId, run: &Run) -> record::Visibility {
    let started = &run.started;
    let backoff = duration_nanos(started.first_workflow_task_backoff.as_ref());
    let closed = !run.is_running();
    let parent = started.parent_workflow_execution.as_ref();
    let root = started.root_workflow_execution.as_ref();
    let backoff = run.head.standalone.as_ref().map_or(backoff, |known| duration_nanos(known.start_delay.as_ref()));
    record::Visibility {
        workflow_id: chain.workflow_id.clone(),
        run_id: run.id.clone(),
        workflow_type: started.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        task_queue: started.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default(),
        status: run.head.status,
        start_time: Some(timestamp(run.start_time)),
        execution_time: Some(timestamp(run.start_time.saturating_add(backoff))),
        close_time: run.head.close_time,
        // Shown of closed runs only: open ones would need a row for every event.
        history_length: if closed { run.head.next_event_id - 1 } else { 0 },
        history_size: if closed { run.head.history_size } else { 0 },
        transitions: if closed { run.head.transitions } else { 0 },
        memo: run.fields.memo.clone(),
        search_attributes: search_attributes(run),
        parent_workflow_id: parent.map(|e| e.workflow_id.clone()).unwrap_or_default(),
        parent_run_id: parent.map(|e| e.run_id.clone()).unwrap_or_default(),
        root_workflow_id: root.map_or_else(|| chain.workflow_id.clone(), |e| e.workflow_id.clone()),
        root_run_id: root.map_or_else(|| run.id.clone(), |e| e.run_id.clone()),
    }
}

/// Standalone activities stand in a division of their own, where listings of workflows don't look.
fn search_attributes(run: &Run) -> Option<SearchAttributes> {
    let own = run.fields.search_attributes.clone();
    if run.head.standalone.is_none() {
        return own;
    }
    let mut attributes = own.unwrap_or_default();
    attributes.indexed_fields.insert("TemporalNamespaceDivision".into(), payload::keyword(standalone::DIVISION));
    Some(attributes)
}
