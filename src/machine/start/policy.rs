//! What happens when the workflow id is taken: the conflict policy says it while its run is open, the
//! reuse policy once it is closed.

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{
    EventType, WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};

use crate::draft::Draft;
use crate::reply;

/// What a start comes to. The run ids are those of the open run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    Create,
    UseExisting(String),
    TerminateExisting(String),
}

/// Both policies must have been completed and checked against each other.
pub(crate) fn decide(
    draft: &Draft<'_>,
    reuse: WorkflowIdReusePolicy,
    conflict: WorkflowIdConflictPolicy,
) -> Result<Decision, Rejection> {
    let Some(record) = draft.record().filter(|record| !record.current_run_id.is_empty()) else {
        return Ok(Decision::Create);
    };
    let workflow_id = &draft.id().workflow_id;
    let run_id = record.current_run_id.clone();
    let open = matches!(record.current_status(), Status::Running | Status::Paused);
    if open {
        let conflict = if reuse == WorkflowIdReusePolicy::TerminateIfRunning {
            WorkflowIdConflictPolicy::TerminateExisting
        } else {
            conflict
        };
        return match conflict {
            WorkflowIdConflictPolicy::UseExisting => Ok(Decision::UseExisting(run_id)),
            WorkflowIdConflictPolicy::TerminateExisting => Ok(Decision::TerminateExisting(run_id)),
            WorkflowIdConflictPolicy::Fail | WorkflowIdConflictPolicy::Unspecified => {
                let message =
                    format!("Workflow execution is already running. WorkflowId: {workflow_id}, RunId: {run_id}.");
                Err(already_started(record, message))
            }
        };
    }
    match reuse {
        WorkflowIdReusePolicy::Unspecified
        | WorkflowIdReusePolicy::AllowDuplicate
        | WorkflowIdReusePolicy::TerminateIfRunning => Ok(Decision::Create),
        WorkflowIdReusePolicy::AllowDuplicateFailedOnly => match record.current_status() {
            Status::Failed | Status::Canceled | Status::Terminated | Status::TimedOut => Ok(Decision::Create),
            _ => Err(already_started(
                record,
                format!(
                    "Workflow execution already finished successfully. WorkflowId: {workflow_id}, RunId: {run_id}. \
                     Workflow Id reuse policy: allow duplicate workflow Id if last run failed."
                ),
            )),
        },
        WorkflowIdReusePolicy::RejectDuplicate => Err(already_started(
            record,
            format!(
                "Workflow execution already finished. WorkflowId: {workflow_id}, RunId: {run_id}. \
                 Workflow Id reuse policy: reject duplicate workflow Id."
            ),
        )),
    }
}

fn already_started(record: &record::Chain, message: String) -> Rejection {
    let create =
        record.request_ids.iter().find(|(_, info)| info.event_type == EventType::WorkflowExecutionStarted as i32);
    let request_id = create.map_or("", |(request_id, _)| request_id);
    reply::already_started(message, request_id, &record.current_run_id, &record.first_run_id)
}
