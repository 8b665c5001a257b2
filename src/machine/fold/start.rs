//! The first event: a run comes into being.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionStartedEventAttributes};
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionVersioningInfo;

use crate::chain::Run;
use crate::event;
use crate::rows::{Rows, Shared};
use crate::stamp::{duration_nanos, nanos, timestamp};

/// The run that a first event opens. The event is not counted yet: `next_event_id` is 1. `None` when it
/// is no first event.
pub fn run(id: &str, event: &HistoryEvent) -> Option<Run> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = &event.attributes else { return None };
    let start_time = event.event_time.as_ref().map_or(0, nanos);
    let backoff = duration_nanos(started.first_workflow_task_backoff.as_ref());
    let head = record::Head {
        status: WorkflowExecutionStatus::Running.into(),
        next_event_id: 1,
        last_batch_id: 1,
        auto_reset_points: started.prev_auto_reset_points.clone(),
        first_task_backoff_until: (backoff > 0).then(|| timestamp(start_time.saturating_add(backoff))),
        priority: started.priority.clone(),
        versioning: versioning(started),
        worker_version: started.source_version_stamp.clone(),
        ..record::Head::default()
    };
    let fields = record::Fields { memo: started.memo.clone(), search_attributes: started.search_attributes.clone() };
    assemble(id, event, head.into(), Arc::new(fields))
}

/// A run from its first event and its two scalar rows, with nothing pending.
pub fn assemble(
    id: &str,
    event: &HistoryEvent,
    head: Shared<record::Head>,
    fields: Arc<record::Fields>,
) -> Option<Run> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = &event.attributes else { return None };
    Some(Run {
        id: id.to_string(),
        started: Arc::new(started.clone()),
        start_time: head.reset_start_time.as_ref().or(event.event_time.as_ref()).map_or(0, nanos),
        first_event_time: event.event_time.as_ref().map_or(0, nanos),
        links: event.links.clone().into(),
        user_metadata: event.user_metadata.clone().map(Arc::new),
        head,
        fields,
        activities: Rows::default(),
        timers: Rows::default(),
        children: Rows::default(),
        external_signals: Rows::default(),
        external_cancels: Rows::default(),
        buffered: Rows::default(),
        signal_requests: Rows::default(),
        updates: Rows::default(),
        activity_ids: Rows::default(),
        timer_ids: Rows::default(),
        due: Rows::default(),
        soft_start: None,
        admitted: Vec::new(),
        speculative: None,
    })
}

/// The first event of a run, as it was written.
pub fn first_event(run: &Run) -> HistoryEvent {
    let attributes = Attributes::WorkflowExecutionStartedEventAttributes((*run.started).clone());
    HistoryEvent {
        event_id: 1,
        task_id: 1,
        links: run.links.to_vec(),
        user_metadata: run.user_metadata.as_deref().cloned(),
        ..event::new(run.first_event_time, attributes)
    }
}

fn versioning(started: &WorkflowExecutionStartedEventAttributes) -> Option<WorkflowExecutionVersioningInfo> {
    let versioning_override = started.versioning_override.clone()?;
    Some(WorkflowExecutionVersioningInfo {
        versioning_override: Some(versioning_override),
        ..WorkflowExecutionVersioningInfo::default()
    })
}
