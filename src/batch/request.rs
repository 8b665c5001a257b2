//! What a batch job may ask for.

use bristlecone_machine::reply::{invalid_argument, plain};
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::batch::v1::{
    BatchOperationReset, BatchOperationUpdateActivityOptions, batch_operation_reset_activities,
    batch_operation_unpause_activities, batch_operation_update_activity_options,
};
use bristlecone_proto::temporal::api::enums::v1::{BatchOperationType, ResetType};
use bristlecone_proto::temporal::api::workflowservice::v1::StartBatchOperationRequest;
use bristlecone_proto::temporal::api::workflowservice::v1::start_batch_operation_request::Operation;

/// Refuses a request that makes no sense.
///
/// # Errors
/// In the words of the API.
pub fn check(request: &StartBatchOperationRequest) -> Result<(), Rejection> {
    let no_target = request.visibility_query.is_empty() && request.executions.is_empty();
    let operation = request.operation.as_ref().filter(|operation| operation_type(operation).is_some());
    let Some(operation) =
        operation.filter(|_| !request.reason.is_empty() && !request.namespace.is_empty() && !no_target)
    else {
        return Err(invalid_argument("must provide required parameters: BatchType/Reason/Namespace/Query/Executions"));
    };
    if request.job_id.is_empty() {
        return Err(invalid_argument("JobId is not set on request."));
    }
    if !request.visibility_query.is_empty() && !request.executions.is_empty() {
        return Err(unknown("batch query and executions are mutually exclusive"));
    }
    check_operation(operation)
}

fn check_operation(operation: &Operation) -> Result<(), Rejection> {
    const NO_TYPE: &str = "Either activity type must be set, or match all should be set to true";
    match operation {
        Operation::SignalOperation(signal) if signal.signal.is_empty() => Err(unknown("must provide signal name")),
        Operation::UpdateWorkflowOptionsOperation(update) if update.workflow_execution_options.is_none() => {
            Err(unknown("must provide UpdateOptions"))
        }
        Operation::UpdateWorkflowOptionsOperation(update) if update.update_mask.is_none() => {
            Err(unknown("must provide UpdateMask"))
        }
        Operation::ResetOperation(reset) => check_reset(reset),
        Operation::UnpauseActivitiesOperation(unpause) => {
            use batch_operation_unpause_activities::Activity as A;
            match &unpause.activity {
                None => Err(invalid_argument("activity filter must be set")),
                Some(A::Type(name)) if name.is_empty() => Err(invalid_argument(NO_TYPE)),
                Some(A::MatchAll(false)) => Err(invalid_argument(NO_TYPE)),
                Some(A::Type(_) | A::MatchAll(true)) => Ok(()),
            }
        }
        Operation::ResetActivitiesOperation(reset) => {
            use batch_operation_reset_activities::Activity as A;
            match &reset.activity {
                None => Err(invalid_argument("must provide ActivityType or MatchAll")),
                Some(A::Type(name)) if name.is_empty() => Err(invalid_argument(NO_TYPE)),
                Some(A::MatchAll(false)) => Err(invalid_argument(NO_TYPE)),
                Some(A::Type(_) | A::MatchAll(true)) => Ok(()),
            }
        }
        Operation::UpdateActivityOptionsOperation(update) => check_activity_options(update),
        _ => Ok(()),
    }
}

fn check_reset(reset: &BatchOperationReset) -> Result<(), Rejection> {
    match &reset.options {
        Some(options) if options.target.is_none() => Err(invalid_argument("batch reset missing target")),
        Some(_) => Ok(()),
        None => match ResetType::try_from(reset.reset_type) {
            Ok(ResetType::Unspecified) => Err(invalid_argument("unknown batch reset type Unspecified")),
            Ok(_) => Ok(()),
            Err(_) => Err(invalid_argument(format!("unknown batch reset type {}", reset.reset_type))),
        },
    }
}

fn check_activity_options(update: &BatchOperationUpdateActivityOptions) -> Result<(), Rejection> {
    use batch_operation_update_activity_options::Activity as A;
    const NO_TYPE: &str = "Either activity type must be set, or match all should be set to true";
    if update.activity_options.is_some() && update.restore_original {
        return Err(invalid_argument("cannot set both activity options and restore original"));
    }
    if update.activity_options.is_none() && !update.restore_original {
        return Err(invalid_argument("Either activity type must be set, or restore original should be set to true"));
    }
    match &update.activity {
        Some(A::Type(name)) if name.is_empty() => Err(invalid_argument(NO_TYPE)),
        Some(A::MatchAll(false)) => Err(invalid_argument(NO_TYPE)),
        _ => Ok(()),
    }
}

/// The kind of an operation; `None`: one that this server does not have.
pub fn operation_type(operation: &Operation) -> Option<BatchOperationType> {
    use BatchOperationType as T;
    Some(match operation {
        Operation::TerminationOperation(_) => T::Terminate,
        Operation::SignalOperation(_) => T::Signal,
        Operation::CancellationOperation(_) => T::Cancel,
        Operation::DeletionOperation(_) => T::Delete,
        Operation::ResetOperation(_) => T::Reset,
        Operation::UpdateWorkflowOptionsOperation(_) => T::UpdateExecutionOptions,
        Operation::UnpauseActivitiesOperation(_) => T::UnpauseActivity,
        Operation::ResetActivitiesOperation(_) => T::ResetActivity,
        Operation::UpdateActivityOptionsOperation(_) => T::UpdateActivityOptions,
        _ => return None,
    })
}

/// Who asks for the operation.
pub fn identity(operation: &Operation) -> &str {
    match operation {
        Operation::TerminationOperation(operation) => &operation.identity,
        Operation::SignalOperation(operation) => &operation.identity,
        Operation::CancellationOperation(operation) => &operation.identity,
        Operation::DeletionOperation(operation) => &operation.identity,
        Operation::ResetOperation(operation) => &operation.identity,
        Operation::UpdateWorkflowOptionsOperation(operation) => &operation.identity,
        Operation::UnpauseActivitiesOperation(operation) => &operation.identity,
        Operation::ResetActivitiesOperation(operation) => &operation.identity,
        Operation::UpdateActivityOptionsOperation(operation) => &operation.identity,
        _ => "",
    }
}

/// The query of a job as it is carried out: only open executions are operated, and only those with paused
/// activities are unpaused. `None`: the job names its executions.
pub fn query(request: &StartBatchOperationRequest) -> Option<String> {
    use batch_operation_unpause_activities::Activity as A;
    if request.visibility_query.is_empty() {
        return None;
    }
    let mut query = format!("({})", request.visibility_query);
    match &request.operation {
        Some(Operation::UnpauseActivitiesOperation(unpause)) => match &unpause.activity {
            Some(A::Type(name)) => {
                let name = name.replace('\\', "\\\\").replace('\'', "\\'");
                query.push_str(&format!(" AND (TemporalPauseInfo = 'property:activityType={name}')"));
            }
            _ => query.push_str(" AND (TemporalPauseInfo IS NOT NULL)"),
        },
        Some(Operation::DeletionOperation(_) | Operation::ResetOperation(_)) | None => return Some(query),
        Some(_) => {}
    }
    query.push_str(" AND (ExecutionStatus='Running')");
    Some(query)
}

/// Some mistakes have no code of their own.
fn unknown(message: &str) -> Rejection {
    const UNKNOWN: i32 = 2;
    plain(UNKNOWN, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::batch::v1::{
        BatchOperationDeletion, BatchOperationSignal, BatchOperationTermination, BatchOperationUnpauseActivities,
    };
    use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;

    fn job(operation: Operation) -> StartBatchOperationRequest {
        StartBatchOperationRequest {
            namespace: "default".into(),
            visibility_query: "WorkflowType='T'".into(),
            job_id: "job".into(),
            reason: "why not".into(),
            operation: Some(operation),
            ..StartBatchOperationRequest::default()
        }
    }

    fn terminate() -> Operation {
        Operation::TerminationOperation(BatchOperationTermination::default())
    }

    fn error(request: &StartBatchOperationRequest) -> (i32, String) {
        let rejection = check(request).expect_err("it makes no sense");
        (rejection.code, rejection.message)
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(check(&job(terminate())), Ok(()));
        let required = "must provide required parameters: BatchType/Reason/Namespace/Query/Executions";
        for missing in [
            StartBatchOperationRequest { operation: None, ..job(terminate()) },
            StartBatchOperationRequest { reason: String::new(), ..job(terminate()) },
            StartBatchOperationRequest { visibility_query: String::new(), ..job(terminate()) },
        ] {
            assert_eq!(error(&missing), (3, required.into()));
        }
        let nameless = StartBatchOperationRequest { job_id: String::new(), ..job(terminate()) };
        assert_eq!(error(&nameless).1, "JobId is not set on request.");
        let both = StartBatchOperationRequest { executions: vec![WorkflowExecution::default()], ..job(terminate()) };
        assert_eq!(error(&both), (2, "batch query and executions are mutually exclusive".into()));
        let signal = job(Operation::SignalOperation(BatchOperationSignal::default()));
        assert_eq!(error(&signal), (2, "must provide signal name".into()));
        let reset = job(Operation::ResetOperation(BatchOperationReset::default()));
        assert_eq!(error(&reset).1, "unknown batch reset type Unspecified");
    }

    #[test]
    fn queries_are_narrowed_to_what_the_operation_is_for() {
        let of = |operation| query(&job(operation));
        assert_eq!(of(terminate()).as_deref(), Some("(WorkflowType='T') AND (ExecutionStatus='Running')"));
        let delete = Operation::DeletionOperation(BatchOperationDeletion::default());
        assert_eq!(of(delete).as_deref(), Some("(WorkflowType='T')"));
        let activity = Some(batch_operation_unpause_activities::Activity::Type("it's".into()));
        let unpause = BatchOperationUnpauseActivities { activity, ..BatchOperationUnpauseActivities::default() };
        assert_eq!(
            of(Operation::UnpauseActivitiesOperation(unpause)).as_deref(),
            Some(
                "(WorkflowType='T') AND (TemporalPauseInfo = 'property:activityType=it\\'s') AND \
                 (ExecutionStatus='Running')"
            )
        );
        let named = StartBatchOperationRequest {
            visibility_query: String::new(),
            executions: vec![WorkflowExecution::default()],
            ..job(terminate())
        };
        assert_eq!(query(&named), None);
    }
}
