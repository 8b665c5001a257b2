//! Whether a worker's token still stands for the pending workflow task.

use bristlecone_proto::chain::{Rejection, WorkflowTaskToken};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use crate::chain::{Run, SoftStart};
use crate::draft::Draft;
use crate::reply;
use crate::stamp::nanos;

/// Accepts the token: afterwards the start that it names is durable. Nothing is changed otherwise.
pub(crate) fn accept(draft: &mut Draft<'_>, token: &WorkflowTaskToken) -> Result<(), Rejection> {
    let run_id = &token.run_id;
    let Some(run) = draft.get(run_id) else {
        return Err(reply::workflow_not_found(&draft.id().workflow_id, run_id));
    };
    if run.speculative.is_some() {
        if !names_speculative(run, token) {
            return Err(reply::workflow_task_not_found());
        }
        draft.begin_transition(run_id);
        return Ok(());
    }
    if names_durable_start(run, token) {
        draft.begin_transition(run_id);
        return Ok(());
    }
    let soft = soft_start_of(run, token).ok_or_else(reply::workflow_task_not_found)?;
    draft.soft_mut(run_id).soft_start = Some(soft);
    draft.begin_transition(run_id);
    Ok(())
}

/// Whether the token is that of the start of the speculative task. One of an earlier leader never is.
pub(crate) fn names_speculative(run: &Run, token: &WorkflowTaskToken) -> bool {
    let started = run.soft_start.as_ref().filter(|_| run.speculative.is_some()).map(|soft| &soft.started_event);
    started.is_some() && started == token.started_event.as_ref()
}

fn names_durable_start(run: &Run, token: &WorkflowTaskToken) -> bool {
    let Some(task) = run.head.workflow_task.as_ref().filter(|task| task.started_event_id != 0) else { return false };
    task.scheduled_event_id == token.scheduled_event_id
        && task.attempt == token.attempt
        && token.started_event.is_some()
        && token.started_event == task.started_event
}

/// The soft start that the token tells of, if nothing happened to the run since.
fn soft_start_of(run: &Run, token: &WorkflowTaskToken) -> Option<SoftStart> {
    let task = run.head.workflow_task.as_ref().filter(|task| task.started_event_id == 0)?;
    let event = token.started_event.as_ref()?;
    let Some(Attributes::WorkflowTaskStartedEventAttributes(attributes)) = &event.attributes else { return None };
    let current = run.head.transitions == token.transitions
        && task.scheduled_event_id == token.scheduled_event_id
        && attributes.scheduled_event_id == token.scheduled_event_id
        && task.attempt == token.attempt
        && run.head.workflow_task_stamp == token.stamp;
    current.then(|| SoftStart {
        started_event: event.clone(),
        request_id: attributes.request_id.clone(),
        identity: attributes.identity.clone(),
        at: event.event_time.as_ref().map_or(0, nanos),
        harden_by: 0,
        transitions: token.transitions,
    })
}
