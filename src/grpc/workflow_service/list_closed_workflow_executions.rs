//! ListClosedWorkflowExecutions (deprecated): by close time, and by workflow id, type or status.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::workflowservice::v1::list_closed_workflow_executions_request::Filters;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ListClosedWorkflowExecutionsRequest, ListClosedWorkflowExecutionsResponse,
};

use crate::filter::{Check, Condition, Filter, Value};
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, listing};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ListClosedWorkflowExecutionsRequest,
) -> Result<ListClosedWorkflowExecutionsResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let status = |status: Status| listing::test("ExecutionStatus", Check::Equal(Value::Status(status)));
    let mut conditions = vec![Condition::Not(Box::new(status(Status::Running)))];
    conditions.extend(listing::in_range("CloseTime", request.start_time_filter.as_ref())?);
    match request.filters {
        None => {}
        Some(Filters::ExecutionFilter(execution)) => {
            conditions.push(listing::equals("WorkflowId", &execution.workflow_id));
        }
        Some(Filters::TypeFilter(workflow_type)) => {
            conditions.push(listing::equals("WorkflowType", &workflow_type.name));
        }
        Some(Filters::StatusFilter(filter)) => match filter.status() {
            Status::Unspecified | Status::Running => {
                let message = "StatusFilter must be specified and must be not Running.";
                return Err(reply::invalid_argument(message));
            }
            closed => conditions.push(status(closed)),
        },
    }
    let (filter, size) = (Filter::all_of(conditions), request.maximum_page_size);
    let page = edge.list_by_filter(&call, &namespace.record, &filter, size, &request.next_page_token).await?;
    Ok(ListClosedWorkflowExecutionsResponse { executions: page.executions, next_page_token: page.next_page_token })
}
