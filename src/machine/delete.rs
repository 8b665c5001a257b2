//! DeleteWorkflowExecution, and the removal of runs whose retention is over.

use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::Purge;
use bristlecone_proto::temporal::api::workflowservice::v1::DeleteWorkflowExecutionRequest;

use crate::draft::Draft;
use crate::terminate::{self, Terminate};
use crate::{Step, reply, schedule};

/// An open run is terminated first, so that its parent and children hear of it. Nothing of it stays.
pub(crate) fn delete(mut draft: Draft<'_>, request: &DeleteWorkflowExecutionRequest) -> Step {
    // A schedule is listed as a workflow is.
    if draft.chain().schedule.is_some() {
        return schedule::delete(draft);
    }
    let run_id = match draft.find(request.workflow_execution.as_ref()) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    if draft.run(&run_id).is_running() {
        let terminate =
            Terminate { reason: "Delete workflow execution", details: None, identity: "history-service", links: &[] };
        terminate::run(&mut draft, &run_id, terminate);
    }
    draft.purge(&run_id);
    draft.finish(reply::done())
}

/// Removes a closed run; an open or unknown one is left alone.
pub(crate) fn purge(mut draft: Draft<'_>, purge: &Purge) -> Step {
    if draft.get(&purge.run_id).is_none_or(super::chain::Run::is_running) {
        return draft.unchanged(reply::done());
    }
    draft.purge(&purge.run_id);
    draft.finish(reply::done())
}

/// Forgets all of the chain: nobody knows of its namespace any more. What it owes to others is lost,
/// and how many runs its slot has of the namespace is forgotten with it.
pub(crate) fn raze(mut draft: Draft<'_>) -> Step {
    draft.forget_counts();
    if draft.record().is_none() && draft.chain().sends.is_empty() && draft.chain().receipts.is_empty() {
        return draft.finish(reply::done());
    }
    let runs: Vec<String> = draft.chain().runs.keys().cloned().collect();
    for run_id in runs {
        draft.purge(&run_id);
    }
    draft.forget_messages();
    draft.set_schedule(None);
    let record = draft.record_mut();
    record.quarantined.clear();
    record.current_run_id.clear();
    record.first_run_id.clear();
    draft.finish(reply::done())
}
