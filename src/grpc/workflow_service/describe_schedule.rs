//! DescribeSchedule: what the schedule is and has done, and which of its workflows are open now.

use std::time::Duration;

use bristlecone_machine::reply::code;
use bristlecone_proto::chain::{ChainId, ScheduleDescription, input, reply};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeScheduleRequest, DescribeScheduleResponse, DescribeWorkflowExecutionRequest,
};
use tokio::time::Instant;

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors, schedules};

/// How long a description waits for actions to have an outcome: whoever triggered one wants to see it.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);

pub async fn handle(edge: Edge, call: Call, request: DescribeScheduleRequest) -> Result<DescribeScheduleResponse> {
    let (namespace, chain) = edge.schedule(&request.namespace, &request.schedule_id)?;
    let give_up = call.answer_by().min(Instant::now() + SETTLES_WITHIN);
    let mut response = loop {
        let ScheduleDescription { response, unsettled } = describe(&edge, &call, &chain, &request).await?;
        if !unsettled || Instant::now() + PAUSE >= give_up {
            break response.unwrap_or_default();
        }
        tokio::time::sleep(PAUSE).await;
    };
    schedules::note_types(response.schedule.as_mut(), &namespace);
    if let Some(info) = &mut response.info {
        let mut open = Vec::with_capacity(info.running_workflows.len());
        for execution in std::mem::take(&mut info.running_workflows) {
            if is_open(&edge, &call, &chain, &execution).await {
                open.push(execution);
            }
        }
        info.running_workflows = open;
    }
    Ok(response)
}

async fn describe(
    edge: &Edge,
    call: &Call,
    chain: &ChainId,
    request: &DescribeScheduleRequest,
) -> Result<ScheduleDescription> {
    match edge.cluster().call(chain, input::Kind::DescribeSchedule(request.clone()), call.answer_by()).await? {
        reply::Kind::Schedule(description) => Ok(*description),
        _ => Err(errors::unexpected_reply()),
    }
}

/// Whether the chain of runs that began with this run is open. One whose state is unknown is taken to be.
async fn is_open(edge: &Edge, call: &Call, schedule: &ChainId, first: &WorkflowExecution) -> bool {
    let chain = ChainId { workflow_id: first.workflow_id.clone(), ..schedule.clone() };
    let request = DescribeWorkflowExecutionRequest {
        namespace: chain.namespace.clone(),
        execution: Some(WorkflowExecution { workflow_id: first.workflow_id.clone(), run_id: String::new() }),
    };
    match edge.cluster().call(&chain, input::Kind::Describe(request), call.answer_by()).await {
        Ok(reply::Kind::Describe(described)) => described.workflow_execution_info.is_none_or(|info| {
            matches!(info.status(), Status::Running | Status::Paused) && info.first_run_id == first.run_id
        }),
        Ok(_) => true,
        Err(rejection) => rejection.code != code::NOT_FOUND,
    }
}
