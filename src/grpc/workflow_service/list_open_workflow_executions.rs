//! ListOpenWorkflowExecutions (deprecated): by start time, and by workflow id or type.

use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus;
use bristlecone_proto::temporal::api::workflowservice::v1::list_open_workflow_executions_request::Filters;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ListOpenWorkflowExecutionsRequest, ListOpenWorkflowExecutionsResponse,
};

use crate::filter::{Check, Filter, Value};
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, listing};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: ListOpenWorkflowExecutionsRequest,
) -> Result<ListOpenWorkflowExecutionsResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let running = Check::Equal(Value::Status(WorkflowExecutionStatus::Running));
    let mut conditions = vec![listing::test("ExecutionStatus", running)];
    conditions.extend(listing::in_range("StartTime", request.start_time_filter.as_ref())?);
    conditions.extend(request.filters.map(|filter| match filter {
        Filters::ExecutionFilter(execution) => listing::equals("WorkflowId", &execution.workflow_id),
        Filters::TypeFilter(workflow_type) => listing::equals("WorkflowType", &workflow_type.name),
    }));
    let (filter, size) = (Filter::all_of(conditions), request.maximum_page_size);
    let page = edge.list_by_filter(&call, &namespace.record, &filter, size, &request.next_page_token).await?;
    Ok(ListOpenWorkflowExecutionsResponse { executions: page.executions, next_page_token: page.next_page_token })
}
