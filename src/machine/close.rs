//! What the end of a run means to others: its parent hears of it, and so do its children.
//!
//! # Contract
//! Every close event is added through [`close`], so that nobody is forgotten. The parent hears only of
//! the last run of a chain of runs; children hear of every run's end, continued or not. What the run
//! asked of other workflows in the very step that ends it is taken back.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{ChainId, ChildClosed, Input, ParentClosed, RunRef, input};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::ParentClosePolicy;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

use crate::draft::Draft;
use crate::{outbox, schedule};

/// Adds the close event and tells parent and children. Returns the event's id.
pub(crate) fn close(draft: &mut Draft<'_>, run_id: &str, event: HistoryEvent) -> i64 {
    let not_started = outbox::take_back(draft, run_id);
    let children: Vec<(i64, ChainId, String, ParentClosePolicy)> = draft
        .run(run_id)
        .children
        .iter()
        .filter(|(initiated_event_id, _)| !not_started.contains(initiated_event_id))
        .filter_map(|(id, child)| {
            follower(child).map(|(target, first_run_id, policy)| (*id, target, first_run_id, policy))
        })
        .collect();
    let event_id = draft.add_event(run_id, event);
    tell_parent(draft, run_id, event_id);
    schedule::tell(draft, run_id, event_id);
    let parent = RunRef { chain: Some(draft.id().clone()), run_id: run_id.into() };
    for (initiated_event_id, target, first_run_id, policy) in children {
        let parent = Some(parent.clone());
        let message = ParentClosed { parent, policy: policy.into(), first_run_id, initiated_event_id };
        draft.send(run_id, target, of(input::Kind::ParentClosed(message)));
    }
    event_id
}

/// A child that ends, or is asked to, when its parent does.
fn follower(child: &record::Child) -> Option<(ChainId, String, ParentClosePolicy)> {
    let policy = child.parent_close_policy();
    match policy {
        ParentClosePolicy::Abandon => None,
        ParentClosePolicy::Unspecified | ParentClosePolicy::Terminate | ParentClosePolicy::RequestCancel => {
            let target = ChainId {
                namespace_id: child.namespace_id.clone(),
                workflow_id: child.workflow_id.clone(),
                namespace: child.namespace.clone(),
            };
            Some((target, child.first_run_id.clone(), policy))
        }
    }
}

fn tell_parent(draft: &mut Draft<'_>, run_id: &str, event_id: i64) {
    let run = draft.run(run_id);
    let started = run.started.clone();
    let Some(parent) = started.parent_workflow_execution.as_ref() else { return };
    if !run.head.successor_run_id.is_empty() || !run.head.reset_run_id.is_empty() {
        return;
    }
    let message = ChildClosed {
        parent_run_id: parent.run_id.clone(),
        initiated_event_id: started.parent_initiated_event_id,
        child: Some(WorkflowExecution { workflow_id: draft.id().workflow_id.clone(), run_id: run_id.into() }),
        first_run_id: started.first_execution_run_id.clone(),
        workflow_type: started.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        close_event: draft.new_event(run_id, event_id).cloned().map(Into::into),
    };
    let target = ChainId {
        namespace_id: started.parent_workflow_namespace_id.clone(),
        workflow_id: parent.workflow_id.clone(),
        namespace: started.parent_workflow_namespace.clone(),
    };
    draft.send(run_id, target, of(input::Kind::ChildClosed(message)));
}

fn of(kind: input::Kind) -> Input {
    Input { kind: Some(kind), origin: None }
}
