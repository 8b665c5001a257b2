//! Where an execution is reset to.

use bristlecone_machine::stamp;
use bristlecone_proto::chain::HistoryHead;
use bristlecone_proto::temporal::api::batch::v1::BatchOperationReset;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::common::v1::reset_options::Target;
use bristlecone_proto::temporal::api::enums::v1::{EventType, ResetType};
use bristlecone_proto::temporal::api::history::v1::History;
use bristlecone_proto::temporal::api::workflowservice::v1::DescribeWorkflowExecutionRequest;
use prost::Message;

use super::operate::Failed;
use crate::grpc::workflow_service as api;
use crate::grpc::{Call, Edge, chain_id};

/// A run, and the event to which it is reset.
#[derive(Debug)]
pub struct Point {
    pub execution: WorkflowExecution,
    pub event_id: i64,
}

enum Which {
    First,
    Last,
}

/// The point that the operation means for this execution.
///
/// # Errors
/// There is none, or it could not be found out.
pub async fn point(
    edge: &Edge,
    namespace: &str,
    operation: &BatchOperationReset,
    execution: &WorkflowExecution,
) -> Result<Point, Failed> {
    let target = operation.options.as_ref().map(|options| options.target.clone());
    let event_id = match target {
        Some(Some(Target::FirstWorkflowTask(()))) => task(edge, namespace, execution, Which::First).await?,
        Some(Some(Target::LastWorkflowTask(()))) => task(edge, namespace, execution, Which::Last).await?,
        Some(Some(Target::WorkflowTaskId(event_id))) => event_id,
        Some(Some(Target::BuildId(build_id))) => {
            let current_run_only = operation.options.as_ref().is_some_and(|options| options.current_run_only);
            return build(edge, namespace, execution, &build_id, current_run_only).await;
        }
        Some(None) => return Err(Failed::Finally("the reset has no target".into())),
        None => match operation.reset_type() {
            ResetType::FirstWorkflowTask => task(edge, namespace, execution, Which::First).await?,
            ResetType::LastWorkflowTask => task(edge, namespace, execution, Which::Last).await?,
            ResetType::Unspecified => return Err(Failed::Finally("the reset has no type".into())),
        },
    };
    Ok(Point { execution: execution.clone(), event_id })
}

/// The first or last workflow task that completed; if none did, the one after the first scheduled event.
async fn task(edge: &Edge, namespace: &str, execution: &WorkflowExecution, which: Which) -> Result<i64, Failed> {
    const PAGE_EVENTS: u32 = 1_000;
    let cluster = edge.cluster();
    let deadline = Call::own().answer_by();
    let chain = chain_id(&edge.namespace(namespace)?.record, &execution.workflow_id);
    let head = HistoryHead { execution: Some(execution.clone()), with_virtual_events: false };
    let history = cluster.history_end(&chain, head, None, deadline).await?;
    let reverse = matches!(which, Which::Last);
    let (mut first, mut end) = (1, history.next_event_id);
    let mut scheduled = None;
    loop {
        let page = cluster.read_events(&chain, &history.run_id, first, end, PAGE_EVENTS, reverse, deadline).await?;
        for batch in page.batches {
            let batch = History::decode(batch).map_err(|error| Failed::Finally(error.to_string()))?;
            let mut events = batch.events;
            if reverse {
                events.reverse();
            }
            for event in events.iter().filter(|event| (first..end).contains(&event.event_id)) {
                match event.event_type() {
                    EventType::WorkflowTaskCompleted => return Ok(event.event_id),
                    EventType::WorkflowTaskScheduled if reverse || scheduled.is_none() => {
                        scheduled = Some(event.event_id + 1);
                    }
                    _ => {}
                }
            }
        }
        match page.next_event_id {
            0 => break,
            next if reverse => end = next,
            next => first = next,
        }
    }
    scheduled.ok_or_else(|| Failed::Finally("unable to find any scheduled or completed task".into()))
}

/// The first workflow task that a build completed, in this run or one before it.
async fn build(
    edge: &Edge,
    namespace: &str,
    execution: &WorkflowExecution,
    build_id: &str,
    current_run_only: bool,
) -> Result<Point, Failed> {
    let describe =
        DescribeWorkflowExecutionRequest { namespace: namespace.to_owned(), execution: Some(execution.clone()) };
    let described = api::describe_workflow_execution::handle(edge.clone(), Call::own(), describe).await?;
    let points = described.workflow_execution_info.and_then(|info| info.auto_reset_points).unwrap_or_default().points;
    let point = points.into_iter().find(|point| point.build_id == build_id);
    let point = point.ok_or_else(|| Failed::Finally(format!("Can't find reset point for {build_id}")))?;
    let expired = point.expire_time.as_ref().is_some_and(|time| stamp::nanos(time) < edge.cluster().wall());
    let refused = if !point.resettable {
        Some(format!("Reset point for {build_id} is not resettable"))
    } else if expired {
        Some(format!("Reset point for {build_id} is expired"))
    } else if execution.run_id != point.run_id && current_run_only {
        Some(format!("Reset point for {build_id} points to previous run and CurrentRunOnly is set"))
    } else {
        None
    };
    match refused {
        Some(reason) => Err(Failed::Finally(reason)),
        None => Ok(Point {
            execution: WorkflowExecution { workflow_id: execution.workflow_id.clone(), run_id: point.run_id },
            event_id: point.first_workflow_task_completed_id,
        }),
    }
}
