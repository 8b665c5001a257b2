//! What holds of a history as readers see it: events refer to what came before them, whatever is closed is
//! closed once, and nothing follows the end.

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_proto::temporal::api::enums::v1::EventType as E;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as A;

use crate::shell::Shell;

/// What an event says of earlier ones: the event that it ends, and of which type that is; likewise the
/// start in between, 0 where there need be none.
struct Refers {
    ends: (i64, E),
    start: Option<(i64, E, Needed)>,
}

#[derive(PartialEq)]
enum Needed {
    Always,
    IfAny,
}

pub fn check(shell: &Shell) {
    for workflow_id in shell.workflow_ids() {
        let Some(store) = shell.store(&workflow_id) else { continue };
        for run_id in store.run_ids() {
            let events: Vec<HistoryEvent> = store.batches(&run_id).concat();
            check_one(&events);
        }
    }
}

fn check_one(events: &[HistoryEvent]) {
    let mut types = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for (at, event) in events.iter().enumerate() {
        let attributes = event.attributes.as_ref().expect("an event has attributes");
        assert!(!is_end(attributes) || at + 1 == events.len(), "an event follows the end: {events:#?}");
        if let Some(Refers { ends: (id, kind), start }) = refers(attributes) {
            assert_eq!(types.get(&id), Some(&kind), "event {} ends {id}", event.event_id);
            assert!(ended.insert(id), "event {} ends {id} again", event.event_id);
            if let Some((start, kind, needed)) = start
                && (start != 0 || needed == Needed::Always)
            {
                assert_eq!(types.get(&start), Some(&kind), "event {} says it started with {start}", event.event_id);
            }
        }
        types.insert(event.event_id, event.event_type());
    }
}

fn is_end(attributes: &A) -> bool {
    matches!(
        attributes,
        A::WorkflowExecutionCompletedEventAttributes(_)
            | A::WorkflowExecutionFailedEventAttributes(_)
            | A::WorkflowExecutionTimedOutEventAttributes(_)
            | A::WorkflowExecutionTerminatedEventAttributes(_)
            | A::WorkflowExecutionCanceledEventAttributes(_)
            | A::WorkflowExecutionContinuedAsNewEventAttributes(_)
    )
}

fn refers(attributes: &A) -> Option<Refers> {
    use Needed::{Always, IfAny};
    let activity = |scheduled: i64, started: i64, needed: Needed| Refers {
        ends: (scheduled, E::ActivityTaskScheduled),
        start: Some((started, E::ActivityTaskStarted, needed)),
    };
    let task = |scheduled: i64, started: i64, needed: Needed| Refers {
        ends: (scheduled, E::WorkflowTaskScheduled),
        start: Some((started, E::WorkflowTaskStarted, needed)),
    };
    let child = |initiated: i64, started: i64| Refers {
        ends: (initiated, E::StartChildWorkflowExecutionInitiated),
        start: Some((started, E::ChildWorkflowExecutionStarted, Always)),
    };
    let alone = |id: i64, kind: E| Refers { ends: (id, kind), start: None };
    Some(match attributes {
        A::WorkflowTaskCompletedEventAttributes(a) => task(a.scheduled_event_id, a.started_event_id, Always),
        A::WorkflowTaskFailedEventAttributes(a) => task(a.scheduled_event_id, a.started_event_id, Always),
        A::WorkflowTaskTimedOutEventAttributes(a) => task(a.scheduled_event_id, a.started_event_id, IfAny),
        A::ActivityTaskCompletedEventAttributes(a) => activity(a.scheduled_event_id, a.started_event_id, Always),
        A::ActivityTaskFailedEventAttributes(a) => activity(a.scheduled_event_id, a.started_event_id, Always),
        A::ActivityTaskTimedOutEventAttributes(a) => activity(a.scheduled_event_id, a.started_event_id, IfAny),
        A::ActivityTaskCanceledEventAttributes(a) => activity(a.scheduled_event_id, a.started_event_id, IfAny),
        A::TimerFiredEventAttributes(a) => alone(a.started_event_id, E::TimerStarted),
        A::TimerCanceledEventAttributes(a) => alone(a.started_event_id, E::TimerStarted),
        A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
            alone(a.initiated_event_id, E::StartChildWorkflowExecutionInitiated)
        }
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => child(a.initiated_event_id, a.started_event_id),
        A::ChildWorkflowExecutionFailedEventAttributes(a) => child(a.initiated_event_id, a.started_event_id),
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => child(a.initiated_event_id, a.started_event_id),
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => child(a.initiated_event_id, a.started_event_id),
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => child(a.initiated_event_id, a.started_event_id),
        A::ExternalWorkflowExecutionSignaledEventAttributes(a) => {
            alone(a.initiated_event_id, E::SignalExternalWorkflowExecutionInitiated)
        }
        A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
            alone(a.initiated_event_id, E::SignalExternalWorkflowExecutionInitiated)
        }
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
            alone(a.initiated_event_id, E::RequestCancelExternalWorkflowExecutionInitiated)
        }
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
            alone(a.initiated_event_id, E::RequestCancelExternalWorkflowExecutionInitiated)
        }
        _ => return None,
    })
}
