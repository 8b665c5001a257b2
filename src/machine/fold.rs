//! What an event does to a run: the only place where events change state.
//!
//! # Contract
//! A decision adds events to a [`crate::draft::Draft`], which folds each as it arrives; a rebuild folds
//! a stored history from its first event. Both come to the same state, save what no event tells
//! (attempts of activities, heartbeats, sticky queues, workflow tasks that are not written yet).
//! An event that waits in the buffer is folded when it arrives, without an id; [`number`] adds what
//! follows from its id when the buffer is flushed.
//!
//! # Used by
//! `draft.rs`, the tests' replay check.

pub(crate) mod activity;
mod child;
mod close;
mod external;
mod fields;
mod options;
mod pause;
pub(crate) mod start;
mod update;
pub(crate) mod workflow_task;

use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as A;

use crate::chain::Run;
use crate::stamp::Limits;

pub(crate) use fields::{is_nil, merge};

/// Marks the id of something whose event waits in the buffer.
pub const BUFFERED_EVENT_ID: i64 = -123;

/// Folds an event of a run that has started. `batch_id` is the id of the first event of its batch.
pub fn apply(run: &mut Run, event: &HistoryEvent, batch_id: i64, limits: &Limits) {
    let Some(attributes) = &event.attributes else { return };
    match attributes {
        A::WorkflowExecutionStartedEventAttributes(_) => {}
        A::WorkflowTaskScheduledEventAttributes(a) => workflow_task::scheduled(run, event, a),
        A::WorkflowTaskStartedEventAttributes(a) => workflow_task::started(run, event, a),
        A::WorkflowTaskCompletedEventAttributes(a) => workflow_task::completed(run, event, a, limits),
        A::WorkflowTaskFailedEventAttributes(a) => workflow_task::failed_event(run, a),
        A::WorkflowTaskTimedOutEventAttributes(a) => workflow_task::timed_out_event(run, a),

        A::ActivityTaskScheduledEventAttributes(a) => activity::scheduled(run, event, a, batch_id),
        A::ActivityTaskStartedEventAttributes(a) => activity::started(run, event, a),
        A::ActivityTaskCancelRequestedEventAttributes(a) => activity::cancel_requested(run, event, a),
        A::ActivityTaskCompletedEventAttributes(a) => activity::closed(run, a.scheduled_event_id),
        A::ActivityTaskFailedEventAttributes(a) => activity::closed(run, a.scheduled_event_id),
        A::ActivityTaskTimedOutEventAttributes(a) => activity::closed(run, a.scheduled_event_id),
        A::ActivityTaskCanceledEventAttributes(a) => activity::closed(run, a.scheduled_event_id),

        A::TimerStartedEventAttributes(a) => fields::timer_started(run, event, a),
        A::TimerFiredEventAttributes(a) => fields::timer_closed(run, a.started_event_id),
        A::TimerCanceledEventAttributes(a) => fields::timer_closed(run, a.started_event_id),

        A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => child::initiated(run, event, a, batch_id),
        A::ChildWorkflowExecutionStartedEventAttributes(a) => child::started(run, event, a),
        A::StartChildWorkflowExecutionFailedEventAttributes(a) => child::closed(run, a.initiated_event_id),
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => child::closed(run, a.initiated_event_id),
        A::ChildWorkflowExecutionFailedEventAttributes(a) => child::closed(run, a.initiated_event_id),
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => child::closed(run, a.initiated_event_id),
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => child::closed(run, a.initiated_event_id),
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => child::closed(run, a.initiated_event_id),

        A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => external::signal_initiated(run, event, a),
        A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => external::signal_done(run, a.initiated_event_id),
        A::ExternalWorkflowExecutionSignaledEventAttributes(a) => external::signal_done(run, a.initiated_event_id),
        A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            external::cancel_initiated(run, event, a);
        }
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
            external::cancel_done(run, a.initiated_event_id);
        }
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
            external::cancel_done(run, a.initiated_event_id);
        }

        A::WorkflowExecutionSignaledEventAttributes(a) => fields::signaled(run, a),
        A::WorkflowExecutionCancelRequestedEventAttributes(_) => run.head.cancel_requested = true,
        A::UpsertWorkflowSearchAttributesEventAttributes(a) => fields::search_attributes(run, a),
        A::WorkflowPropertiesModifiedEventAttributes(a) => fields::memo(run, a),
        A::WorkflowExecutionOptionsUpdatedEventAttributes(a) => options::updated(run, event, a),
        A::WorkflowExecutionPausedEventAttributes(a) => pause::paused(run, event, a),
        A::WorkflowExecutionUnpausedEventAttributes(_) => pause::unpaused(run),
        A::MarkerRecordedEventAttributes(_) => {}

        A::WorkflowExecutionCompletedEventAttributes(a) => close::completed(run, event, a),
        A::WorkflowExecutionFailedEventAttributes(a) => close::failed(run, event, a),
        A::WorkflowExecutionTimedOutEventAttributes(a) => close::timed_out(run, event, a),
        A::WorkflowExecutionTerminatedEventAttributes(_) => close::terminated(run, event),
        A::WorkflowExecutionCanceledEventAttributes(_) => close::canceled(run, event),
        A::WorkflowExecutionContinuedAsNewEventAttributes(a) => close::continued_as_new(run, event, a),

        A::WorkflowExecutionUpdateAdmittedEventAttributes(a) => update::admitted(run, event, a),
        A::WorkflowExecutionUpdateAcceptedEventAttributes(a) => update::accepted(run, event, a),
        A::WorkflowExecutionUpdateCompletedEventAttributes(a) => update::completed(run, event, a),

        // Nothing of this server writes these yet.
        A::WorkflowExecutionUpdateRejectedEventAttributes(_)
        | A::WorkflowPropertiesModifiedExternallyEventAttributes(_)
        | A::ActivityPropertiesModifiedExternallyEventAttributes(_)
        | A::NexusOperationScheduledEventAttributes(_)
        | A::NexusOperationStartedEventAttributes(_)
        | A::NexusOperationCompletedEventAttributes(_)
        | A::NexusOperationFailedEventAttributes(_)
        | A::NexusOperationCanceledEventAttributes(_)
        | A::NexusOperationTimedOutEventAttributes(_)
        | A::NexusOperationCancelRequestedEventAttributes(_)
        | A::NexusOperationCancelRequestCompletedEventAttributes(_)
        | A::NexusOperationCancelRequestFailedEventAttributes(_)
        | A::WorkflowExecutionTimeSkippingTransitionedEventAttributes(_) => {}
    }
}

/// Adds what follows from the id of an event that was folded without one.
pub fn number(run: &mut Run, event: &HistoryEvent) {
    match &event.attributes {
        Some(A::ChildWorkflowExecutionStartedEventAttributes(a)) => child::numbered(run, event, a),
        Some(A::WorkflowExecutionOptionsUpdatedEventAttributes(a)) => options::numbered(run, event, a),
        Some(A::WorkflowExecutionUpdateAdmittedEventAttributes(a)) => update::numbered(run, event, a),
        _ => {}
    }
}
