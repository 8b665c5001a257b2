//! What kind an event is: its type, and whether it waits in the buffer.
//!
//! # Contract
//! Classification depends on the type alone. The tables follow semantics of the API's original server,
//! because SDKs replay events in exactly the order that follows from them.

use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use crate::stamp::{UnixNanos, timestamp};

/// An event without id.
pub fn new(time: UnixNanos, attributes: Attributes) -> HistoryEvent {
    HistoryEvent {
        event_time: Some(timestamp(time)),
        event_type: type_of(&attributes).into(),
        attributes: Some(attributes),
        ..HistoryEvent::default()
    }
}

/// Whether an event of this type goes to the buffer before it gets its id.
pub fn is_buffered(event_type: EventType) -> bool {
    use EventType as E;
    match event_type {
        E::WorkflowExecutionStarted
        | E::WorkflowExecutionCompleted
        | E::WorkflowExecutionFailed
        | E::WorkflowExecutionTimedOut
        | E::WorkflowExecutionTerminated
        | E::WorkflowExecutionContinuedAsNew
        | E::WorkflowExecutionCanceled
        | E::WorkflowTaskScheduled
        | E::WorkflowTaskStarted
        | E::WorkflowTaskCompleted
        | E::WorkflowTaskFailed
        | E::WorkflowTaskTimedOut
        | E::ActivityTaskScheduled
        | E::ActivityTaskCancelRequested
        | E::TimerStarted
        | E::TimerCanceled
        | E::RequestCancelExternalWorkflowExecutionInitiated
        | E::SignalExternalWorkflowExecutionInitiated
        | E::StartChildWorkflowExecutionInitiated
        | E::MarkerRecorded
        | E::UpsertWorkflowSearchAttributes
        | E::WorkflowPropertiesModified
        | E::NexusOperationScheduled
        | E::NexusOperationCancelRequested
        | E::WorkflowExecutionUpdateAccepted
        | E::WorkflowExecutionUpdateCompleted => false,
        E::Unspecified
        | E::ActivityTaskStarted
        | E::ActivityTaskCompleted
        | E::ActivityTaskFailed
        | E::ActivityTaskTimedOut
        | E::ActivityTaskCanceled
        | E::TimerFired
        | E::WorkflowExecutionCancelRequested
        | E::RequestCancelExternalWorkflowExecutionFailed
        | E::ExternalWorkflowExecutionCancelRequested
        | E::WorkflowExecutionSignaled
        | E::StartChildWorkflowExecutionFailed
        | E::ChildWorkflowExecutionStarted
        | E::ChildWorkflowExecutionCompleted
        | E::ChildWorkflowExecutionFailed
        | E::ChildWorkflowExecutionCanceled
        | E::ChildWorkflowExecutionTimedOut
        | E::ChildWorkflowExecutionTerminated
        | E::SignalExternalWorkflowExecutionFailed
        | E::ExternalWorkflowExecutionSignaled
        | E::WorkflowExecutionUpdateAdmitted
        | E::WorkflowExecutionUpdateRejected
        | E::WorkflowPropertiesModifiedExternally
        | E::ActivityPropertiesModifiedExternally
        | E::NexusOperationStarted
        | E::NexusOperationCompleted
        | E::NexusOperationFailed
        | E::NexusOperationCanceled
        | E::NexusOperationTimedOut
        | E::WorkflowExecutionOptionsUpdated
        | E::NexusOperationCancelRequestCompleted
        | E::NexusOperationCancelRequestFailed
        | E::WorkflowExecutionPaused
        | E::WorkflowExecutionUnpaused
        | E::WorkflowExecutionTimeSkippingTransitioned => true,
    }
}

/// Whether the event goes behind the others when the buffer is flushed: it ends an activity, a child
/// or a Nexus operation.
pub fn is_flushed_last(event_type: EventType) -> bool {
    use EventType as E;
    matches!(
        event_type,
        E::ActivityTaskCompleted
            | E::ActivityTaskFailed
            | E::ActivityTaskTimedOut
            | E::ActivityTaskCanceled
            | E::ChildWorkflowExecutionCompleted
            | E::ChildWorkflowExecutionFailed
            | E::ChildWorkflowExecutionCanceled
            | E::ChildWorkflowExecutionTimedOut
            | E::ChildWorkflowExecutionTerminated
            | E::NexusOperationCompleted
            | E::NexusOperationFailed
            | E::NexusOperationCanceled
            | E::NexusOperationTimedOut
    )
}

/// The id of what started the thing that this event belongs to (activity or child), and of the event
/// that records its start: `Started(scheduled id)` or `Closed(scheduled id, field of the started id)`.
pub enum Link<'a> {
    Started(i64),
    Closed(i64, &'a mut i64),
    None,
}

/// How an event takes part in wiring started event ids when the buffer is flushed.
pub fn link(event: &mut HistoryEvent) -> Link<'_> {
    use Attributes as A;
    match event.attributes.as_mut() {
        Some(A::ActivityTaskStartedEventAttributes(a)) => Link::Started(a.scheduled_event_id),
        Some(A::ChildWorkflowExecutionStartedEventAttributes(a)) => Link::Started(a.initiated_event_id),
        Some(A::ActivityTaskCompletedEventAttributes(a)) => Link::Closed(a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ActivityTaskFailedEventAttributes(a)) => Link::Closed(a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ActivityTaskTimedOutEventAttributes(a)) => Link::Closed(a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ActivityTaskCanceledEventAttributes(a)) => Link::Closed(a.scheduled_event_id, &mut a.started_event_id),
        Some(A::ChildWorkflowExecutionCompletedEventAttributes(a)) => {
            Link::Closed(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionFailedEventAttributes(a)) => {
            Link::Closed(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionCanceledEventAttributes(a)) => {
            Link::Closed(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionTimedOutEventAttributes(a)) => {
            Link::Closed(a.initiated_event_id, &mut a.started_event_id)
        }
        Some(A::ChildWorkflowExecutionTerminatedEventAttributes(a)) => {
            Link::Closed(a.initiated_event_id, &mut a.started_event_id)
        }
        _ => Link::None,
    }
}

/// The type that goes with the attributes.
pub fn type_of(attributes: &Attributes) -> EventType {
    use Attributes as A;
    use EventType as E;
    match attributes {
        A::WorkflowExecutionStartedEventAttributes(_) => E::WorkflowExecutionStarted,
        A::WorkflowExecutionCompletedEventAttributes(_) => E::WorkflowExecutionCompleted,
        A::WorkflowExecutionFailedEventAttributes(_) => E::WorkflowExecutionFailed,
        A::WorkflowExecutionTimedOutEventAttributes(_) => E::WorkflowExecutionTimedOut,
        A::WorkflowTaskScheduledEventAttributes(_) => E::WorkflowTaskScheduled,
        A::WorkflowTaskStartedEventAttributes(_) => E::WorkflowTaskStarted,
        A::WorkflowTaskCompletedEventAttributes(_) => E::WorkflowTaskCompleted,
        A::WorkflowTaskTimedOutEventAttributes(_) => E::WorkflowTaskTimedOut,
        A::WorkflowTaskFailedEventAttributes(_) => E::WorkflowTaskFailed,
        A::ActivityTaskScheduledEventAttributes(_) => E::ActivityTaskScheduled,
        A::ActivityTaskStartedEventAttributes(_) => E::ActivityTaskStarted,
        A::ActivityTaskCompletedEventAttributes(_) => E::ActivityTaskCompleted,
        A::ActivityTaskFailedEventAttributes(_) => E::ActivityTaskFailed,
        A::ActivityTaskTimedOutEventAttributes(_) => E::ActivityTaskTimedOut,
        A::TimerStartedEventAttributes(_) => E::TimerStarted,
        A::TimerFiredEventAttributes(_) => E::TimerFired,
        A::ActivityTaskCancelRequestedEventAttributes(_) => E::ActivityTaskCancelRequested,
        A::ActivityTaskCanceledEventAttributes(_) => E::ActivityTaskCanceled,
        A::TimerCanceledEventAttributes(_) => E::TimerCanceled,
        A::MarkerRecordedEventAttributes(_) => E::MarkerRecorded,
        A::WorkflowExecutionSignaledEventAttributes(_) => E::WorkflowExecutionSignaled,
        A::WorkflowExecutionTerminatedEventAttributes(_) => E::WorkflowExecutionTerminated,
        A::WorkflowExecutionCancelRequestedEventAttributes(_) => E::WorkflowExecutionCancelRequested,
        A::WorkflowExecutionCanceledEventAttributes(_) => E::WorkflowExecutionCanceled,
        A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            E::RequestCancelExternalWorkflowExecutionInitiated
        }
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(_) => {
            E::RequestCancelExternalWorkflowExecutionFailed
        }
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(_) => E::ExternalWorkflowExecutionCancelRequested,
        A::WorkflowExecutionContinuedAsNewEventAttributes(_) => E::WorkflowExecutionContinuedAsNew,
        A::StartChildWorkflowExecutionInitiatedEventAttributes(_) => E::StartChildWorkflowExecutionInitiated,
        A::StartChildWorkflowExecutionFailedEventAttributes(_) => E::StartChildWorkflowExecutionFailed,
        A::ChildWorkflowExecutionStartedEventAttributes(_) => E::ChildWorkflowExecutionStarted,
        A::ChildWorkflowExecutionCompletedEventAttributes(_) => E::ChildWorkflowExecutionCompleted,
        A::ChildWorkflowExecutionFailedEventAttributes(_) => E::ChildWorkflowExecutionFailed,
        A::ChildWorkflowExecutionCanceledEventAttributes(_) => E::ChildWorkflowExecutionCanceled,
        A::ChildWorkflowExecutionTimedOutEventAttributes(_) => E::ChildWorkflowExecutionTimedOut,
        A::ChildWorkflowExecutionTerminatedEventAttributes(_) => E::ChildWorkflowExecutionTerminated,
        A::SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => E::SignalExternalWorkflowExecutionInitiated,
        A::SignalExternalWorkflowExecutionFailedEventAttributes(_) => E::SignalExternalWorkflowExecutionFailed,
        A::ExternalWorkflowExecutionSignaledEventAttributes(_) => E::ExternalWorkflowExecutionSignaled,
        A::UpsertWorkflowSearchAttributesEventAttributes(_) => E::UpsertWorkflowSearchAttributes,
        A::WorkflowExecutionUpdateAcceptedEventAttributes(_) => E::WorkflowExecutionUpdateAccepted,
        A::WorkflowExecutionUpdateRejectedEventAttributes(_) => E::WorkflowExecutionUpdateRejected,
        A::WorkflowExecutionUpdateCompletedEventAttributes(_) => E::WorkflowExecutionUpdateCompleted,
        A::WorkflowPropertiesModifiedExternallyEventAttributes(_) => E::WorkflowPropertiesModifiedExternally,
        A::ActivityPropertiesModifiedExternallyEventAttributes(_) => E::ActivityPropertiesModifiedExternally,
        A::WorkflowPropertiesModifiedEventAttributes(_) => E::WorkflowPropertiesModified,
        A::WorkflowExecutionUpdateAdmittedEventAttributes(_) => E::WorkflowExecutionUpdateAdmitted,
        A::NexusOperationScheduledEventAttributes(_) => E::NexusOperationScheduled,
        A::NexusOperationStartedEventAttributes(_) => E::NexusOperationStarted,
        A::NexusOperationCompletedEventAttributes(_) => E::NexusOperationCompleted,
        A::NexusOperationFailedEventAttributes(_) => E::NexusOperationFailed,
        A::NexusOperationCanceledEventAttributes(_) => E::NexusOperationCanceled,
        A::NexusOperationTimedOutEventAttributes(_) => E::NexusOperationTimedOut,
        A::NexusOperationCancelRequestedEventAttributes(_) => E::NexusOperationCancelRequested,
        A::WorkflowExecutionOptionsUpdatedEventAttributes(_) => E::WorkflowExecutionOptionsUpdated,
        A::NexusOperationCancelRequestCompletedEventAttributes(_) => E::NexusOperationCancelRequestCompleted,
        A::NexusOperationCancelRequestFailedEventAttributes(_) => E::NexusOperationCancelRequestFailed,
        A::WorkflowExecutionPausedEventAttributes(_) => E::WorkflowExecutionPaused,
        A::WorkflowExecutionUnpausedEventAttributes(_) => E::WorkflowExecutionUnpaused,
        A::WorkflowExecutionTimeSkippingTransitionedEventAttributes(_) => E::WorkflowExecutionTimeSkippingTransitioned,
    }
}
