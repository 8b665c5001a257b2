//! What others said to the workflow after the point of a reset is said again to the new run.
//!
//! # Contract
//! | event after the point | in the new run |
//! |---|---|
//! | signaled | the same, unless signals are excluded |
//! | update admitted, accepted (with its request) | admitted, unless updates are excluded |
//! | options updated | the same |
//! | of a child that was initiated before the point | the same |
//! | everything else | nothing: the workflow does it again, or nobody asked for it |

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::enums::v1::{
    ResetReapplyExcludeType as Exclude, ResetReapplyType, UpdateAdmittedEventOrigin,
};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes as A;
use bristlecone_proto::temporal::api::history::v1::{HistoryEvent, WorkflowExecutionUpdateAdmittedEventAttributes};
use bristlecone_proto::temporal::api::update::v1::Request;
use bristlecone_proto::temporal::api::workflowservice::v1::ResetWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::event;

/// What is left out.
struct Excluded {
    signals: bool,
    updates: bool,
    everything: bool,
}

pub(super) fn reapply(
    draft: &mut Draft<'_>,
    run_id: &str,
    after: &[HistoryEvent],
    request: &ResetWorkflowExecutionRequest,
) {
    let excluded = excluded(request);
    if excluded.everything {
        return;
    }
    let mut initiated_later: Vec<String> = Vec::new();
    for event in after {
        let Some(attributes) = &event.attributes else { continue };
        let again = match attributes {
            A::WorkflowExecutionSignaledEventAttributes(_) if !excluded.signals => Some(attributes.clone()),
            A::WorkflowExecutionUpdateAdmittedEventAttributes(a) if !excluded.updates => {
                admitted(draft, run_id, a.request.as_ref(), a.origin())
            }
            A::WorkflowExecutionUpdateAcceptedEventAttributes(a) if !excluded.updates => {
                admitted(draft, run_id, a.accepted_request.as_ref(), UpdateAdmittedEventOrigin::Reapply)
            }
            A::WorkflowExecutionOptionsUpdatedEventAttributes(a) => {
                let known = draft.run(run_id).head.request_ids.contains_key(&a.attached_request_id);
                let is_new = a.attached_completion_callbacks.is_empty() || !known;
                is_new.then(|| attributes.clone())
            }
            A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                let child_type = a.workflow_type.as_ref().map_or("", |t| &t.name);
                initiated_later.push(format!("{child_type}:{}", a.workflow_id));
                None
            }
            _ => of_child(draft, run_id, attributes),
        };
        if let Some(attributes) = again {
            let event = HistoryEvent {
                links: event.links.clone(),
                worker_may_ignore: event.worker_may_ignore,
                ..event::new(draft.now(), attributes)
            };
            draft.add_event(run_id, event);
        }
    }
    draft.run_mut(run_id).head.former_children = initiated_later;
}

fn excluded(request: &ResetWorkflowExecutionRequest) -> Excluded {
    let has = |kind: Exclude| request.reset_reapply_exclude_types.contains(&kind.into());
    let by_type = request.reset_reapply_type();
    let signals = has(Exclude::Signal) || by_type == ResetReapplyType::None;
    let updates = has(Exclude::Update) || matches!(by_type, ResetReapplyType::None | ResetReapplyType::Signal);
    let everything = signals && updates && has(Exclude::Nexus) && has(Exclude::CancelRequest);
    Excluded { signals, updates, everything }
}

/// The update as the new run has to look at it; `None` when it knows one with this id.
fn admitted(
    draft: &Draft<'_>,
    run_id: &str,
    request: Option<&Request>,
    origin: UpdateAdmittedEventOrigin,
) -> Option<A> {
    let request = request?;
    let id = &request.meta.as_ref()?.update_id;
    if draft.run(run_id).updates.contains(id) {
        return None;
    }
    let attributes =
        WorkflowExecutionUpdateAdmittedEventAttributes { request: Some(request.clone()), origin: origin.into() };
    Some(A::WorkflowExecutionUpdateAdmittedEventAttributes(attributes))
}

/// What became of a child that the new run has initiated too.
fn of_child(draft: &Draft<'_>, run_id: &str, attributes: &A) -> Option<A> {
    let children = &draft.run(run_id).children;
    let started = |initiated: &i64| children.get(initiated).map(|child| child.started_event_id.max(0));
    let mut again = attributes.clone();
    match &mut again {
        A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
            children.get(&a.initiated_event_id)?;
        }
        A::ChildWorkflowExecutionStartedEventAttributes(a) => {
            children.get(&a.initiated_event_id).filter(|child| child.started_event_id == 0)?;
        }
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => a.started_event_id = started(&a.initiated_event_id)?,
        A::ChildWorkflowExecutionFailedEventAttributes(a) => a.started_event_id = started(&a.initiated_event_id)?,
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => a.started_event_id = started(&a.initiated_event_id)?,
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => a.started_event_id = started(&a.initiated_event_id)?,
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => a.started_event_id = started(&a.initiated_event_id)?,
        _ => return None,
    }
    Some(again)
}
