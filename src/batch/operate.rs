//! The operation on one execution.

use bristlecone_machine::reply::code;
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::batch::v1::{
    BatchOperationReset, BatchOperationResetActivities, BatchOperationUnpauseActivities,
    BatchOperationUpdateActivityOptions, batch_operation_reset_activities, batch_operation_unpause_activities,
    batch_operation_update_activity_options,
};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::workflowservice::v1::start_batch_operation_request::Operation;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest, ResetActivityRequest,
    ResetWorkflowExecutionRequest, SignalWorkflowExecutionRequest, StartBatchOperationRequest,
    TerminateWorkflowExecutionRequest, UnpauseActivityRequest, UpdateActivityOptionsRequest,
    UpdateWorkflowExecutionOptionsRequest, reset_activity_request, unpause_activity_request,
    update_activity_options_request,
};

use super::reset;
use crate::grpc::workflow_service as api;
use crate::grpc::{Call, Edge};

/// Why an operation failed.
#[derive(Debug)]
pub enum Failed {
    /// It will always fail.
    Finally(String),
    /// It may go better another time.
    For(Rejection),
}

impl From<Rejection> for Failed {
    fn from(rejection: Rejection) -> Self {
        Self::For(rejection)
    }
}

/// One job's operation, on whichever execution.
#[derive(Debug, Clone, Copy)]
pub struct Operator<'a> {
    pub edge: &'a Edge,
    /// Name of the job's own namespace, whatever the request says.
    pub namespace: &'a str,
    /// Run id of the job: with the execution's it makes request ids.
    pub job_run_id: &'a str,
    pub request: &'a StartBatchOperationRequest,
}

impl Operator<'_> {
    /// Carries the operation out. An execution that is not there any more, or is closed, needs nothing.
    ///
    /// # Errors
    /// Why not.
    pub async fn operate(&self, execution: &WorkflowExecution) -> Result<(), Failed> {
        match self.attempt(execution).await {
            Err(Failed::For(rejection)) if rejection.code == code::NOT_FOUND => Ok(()),
            // Nothing else makes this one right.
            Err(Failed::For(rejection)) if rejection.message.contains("is not present in task queue") => {
                Err(Failed::Finally(rejection.message))
            }
            outcome => outcome,
        }
    }

    async fn attempt(&self, execution: &WorkflowExecution) -> Result<(), Failed> {
        let Some(operation) = &self.request.operation else {
            return Err(Failed::Finally("the job has no operation".into()));
        };
        let (edge, call, namespace) = (self.edge.clone(), Call::own(), self.namespace.to_owned());
        let workflow_execution = Some(execution.clone());
        match operation {
            Operation::TerminationOperation(operation) => {
                let terminate = TerminateWorkflowExecutionRequest {
                    namespace,
                    workflow_execution,
                    reason: self.request.reason.clone(),
                    details: operation.details.clone(),
                    identity: operation.identity.clone(),
                    ..TerminateWorkflowExecutionRequest::default()
                };
                api::terminate_workflow_execution::handle(edge, call, terminate).await?;
            }
            Operation::CancellationOperation(operation) => {
                let cancel = RequestCancelWorkflowExecutionRequest {
                    namespace,
                    workflow_execution,
                    identity: operation.identity.clone(),
                    request_id: self.request_id(execution),
                    reason: self.request.reason.clone(),
                    ..RequestCancelWorkflowExecutionRequest::default()
                };
                api::request_cancel_workflow_execution::handle(edge, call, cancel).await?;
            }
            Operation::SignalOperation(operation) => {
                let signal = SignalWorkflowExecutionRequest {
                    namespace,
                    workflow_execution,
                    signal_name: operation.signal.clone(),
                    input: operation.input.clone(),
                    header: operation.header.clone(),
                    identity: operation.identity.clone(),
                    request_id: self.request_id(execution),
                    ..SignalWorkflowExecutionRequest::default()
                };
                api::signal_workflow_execution::handle(edge, call, signal).await?;
            }
            Operation::DeletionOperation(_) => {
                let delete = DeleteWorkflowExecutionRequest { namespace, workflow_execution };
                api::delete_workflow_execution::handle(edge, call, delete).await?;
            }
            Operation::ResetOperation(operation) => self.reset(operation, execution).await?,
            Operation::UpdateWorkflowOptionsOperation(operation) => {
                let update = UpdateWorkflowExecutionOptionsRequest {
                    namespace,
                    workflow_execution,
                    workflow_execution_options: operation.workflow_execution_options.clone(),
                    update_mask: operation.update_mask.clone(),
                    identity: operation.identity.clone(),
                };
                api::update_workflow_execution_options::handle(edge, call, update).await?;
            }
            Operation::UnpauseActivitiesOperation(operation) => {
                api::unpause_activity::handle(edge, call, unpause(operation, namespace, workflow_execution)).await?;
            }
            Operation::ResetActivitiesOperation(operation) => {
                api::reset_activity::handle(edge, call, reset_activities(operation, namespace, workflow_execution))
                    .await?;
            }
            Operation::UpdateActivityOptionsOperation(operation) => {
                let update = update_activities(operation, namespace, workflow_execution);
                api::update_activity_options::handle(edge, call, update).await?;
            }
            _ => return Err(Failed::Finally("the operation is not supported".into())),
        }
        Ok(())
    }

    async fn reset(&self, operation: &BatchOperationReset, execution: &WorkflowExecution) -> Result<(), Failed> {
        let point = reset::point(self.edge, self.namespace, operation, execution).await?;
        let (reapply_type, exclude) = match &operation.options {
            Some(options) => (options.reset_reapply_type, options.reset_reapply_exclude_types.clone()),
            None => (operation.reset_reapply_type, Vec::new()),
        };
        let reset = ResetWorkflowExecutionRequest {
            namespace: self.namespace.to_owned(),
            workflow_execution: Some(point.execution),
            reason: self.request.reason.clone(),
            workflow_task_finish_event_id: point.event_id,
            request_id: self.request_id(execution),
            reset_reapply_type: reapply_type,
            reset_reapply_exclude_types: exclude,
            post_reset_operations: operation.post_reset_operations.clone(),
            identity: operation.identity.clone(),
        };
        api::reset_workflow_execution::handle(self.edge.clone(), Call::own(), reset).await?;
        Ok(())
    }

    /// The same whenever this job operates this execution.
    fn request_id(&self, execution: &WorkflowExecution) -> String {
        format!("{}:{}", self.job_run_id, execution.run_id)
    }
}

fn unpause(
    operation: &BatchOperationUnpauseActivities,
    namespace: String,
    execution: Option<WorkflowExecution>,
) -> UnpauseActivityRequest {
    use batch_operation_unpause_activities::Activity as Asked;
    use unpause_activity_request::Activity;
    UnpauseActivityRequest {
        namespace,
        execution,
        identity: operation.identity.clone(),
        reset_attempts: operation.reset_attempts,
        reset_heartbeat: operation.reset_heartbeat,
        jitter: operation.jitter,
        activity: operation.activity.as_ref().map(|asked| match asked {
            Asked::Type(name) => Activity::Type(name.clone()),
            Asked::MatchAll(_) => Activity::UnpauseAll(true),
        }),
    }
}

fn reset_activities(
    operation: &BatchOperationResetActivities,
    namespace: String,
    execution: Option<WorkflowExecution>,
) -> ResetActivityRequest {
    use batch_operation_reset_activities::Activity as Asked;
    use reset_activity_request::Activity;
    ResetActivityRequest {
        namespace,
        execution,
        identity: operation.identity.clone(),
        reset_heartbeat: operation.reset_heartbeat,
        keep_paused: operation.keep_paused,
        jitter: operation.jitter,
        restore_original_options: operation.restore_original_options,
        activity: operation.activity.as_ref().map(|asked| match asked {
            Asked::Type(name) => Activity::Type(name.clone()),
            Asked::MatchAll(_) => Activity::MatchAll(true),
        }),
    }
}

fn update_activities(
    operation: &BatchOperationUpdateActivityOptions,
    namespace: String,
    execution: Option<WorkflowExecution>,
) -> UpdateActivityOptionsRequest {
    use batch_operation_update_activity_options::Activity as Asked;
    use update_activity_options_request::Activity;
    UpdateActivityOptionsRequest {
        namespace,
        execution,
        identity: operation.identity.clone(),
        activity_options: operation.activity_options.clone(),
        update_mask: operation.update_mask.clone(),
        restore_original: operation.restore_original,
        activity: operation.activity.as_ref().map(|asked| match asked {
            Asked::Type(name) => Activity::Type(name.clone()),
            Asked::MatchAll(_) => Activity::MatchAll(true),
        }),
    }
}
