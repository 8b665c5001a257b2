//! Simulated clients: they start workflows, signal, query, describe and read, and remember what they were told.
//!
//! # Contract
//! A call whose outcome is unknown is made again with the same request id, at another node. What a reader must see is
//! taken down before the call leaves: only what was acknowledged by then is demanded of the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::temporal::api::common::v1::{WorkflowExecution, WorkflowType};
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use bristlecone_proto::temporal::api::query::v1::WorkflowQuery;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse, GetWorkflowExecutionHistoryRequest,
    ListWorkflowExecutionsRequest, QueryWorkflowRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use super::invariants::{b2_histories, b4_once, b5_reads};
use super::linear::{Answer, Ask};
use super::rng::Rng;
use super::script;
use super::updates;
use super::wire::Service;
use super::worker::is_passing;
use super::world::World;

pub const NAMESPACE: &str = "default";
const CALL_TIME: Duration = Duration::from_secs(5);

/// A workflow that somebody is to start.
#[derive(Debug, Clone)]
pub struct Plan {
    pub workflow_id: String,
    pub request_id: String,
    pub script: String,
    pub after: Duration,
}

/// What is started, drawn from the seed. Some workflow ids are wanted by several clients.
pub fn plans(world: &World) -> Vec<Plan> {
    let rng = &mut Rng::of(world.options.seed, "plans");
    let span = u64::try_from(world.options.safety.as_millis()).unwrap_or(30_000);
    let plans = (0..world.options.workflows).map(|number| {
        let shared = rng.per_mille(200);
        let workflow_id = if shared { format!("shared-{}", rng.below(3)) } else { format!("w-{number}") };
        let script = script::draw(rng);
        if !shared && !script.contains('R') {
            world.ledger.known.lock().single.insert(workflow_id.clone());
        }
        Plan { workflow_id, request_id: format!("r-{number}"), script, after: rng.millis(0..=span) }
    });
    plans.collect()
}

/// Starts a workflow and stays with it: signals it until it is closed.
pub async fn start(world: Arc<World>, plan: Plan, mut rng: Rng) {
    sleep(plan.after).await;
    let request = StartWorkflowExecutionRequest {
        namespace: NAMESPACE.to_string(),
        workflow_id: plan.workflow_id.clone(),
        workflow_type: Some(WorkflowType { name: "sim".into() }),
        task_queue: Some(script::queue()),
        input: Some(script::payload(&plan.script)),
        workflow_task_timeout: script::millis(3_000),
        request_id: plan.request_id.clone(),
        identity: "client".into(),
        ..StartWorkflowExecutionRequest::default()
    };
    world.tally.count("workflow to start");
    loop {
        let mut call = Request::new(request.clone());
        call.set_timeout(CALL_TIME);
        let under = world.calls.call(&plan.workflow_id, Ask::Start);
        if world.options.doubled > 0 {
            // It may come twice, the second time when the run has ended that was in the way of the first.
            drop(world.calls.call(&plan.workflow_id, Ask::Start));
        }
        let answer = world.service(&mut rng).start_workflow_execution(call).await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        world.trace.line(&format!("start {} {}: {code:?}", plan.workflow_id, plan.request_id));
        match answer {
            Ok(answer) => {
                world.tally.count("workflow started");
                let run_id = answer.into_inner().run_id;
                world.calls.returned(&under, Answer::Started(run_id.clone()));
                b4_once::started(&world, &plan.workflow_id, &plan.request_id, &run_id);
                // Once more, as a client does that lost its memory: it must be told of the same run.
                if rng.per_mille(150) {
                    world.tally.count("start repeated");
                    let mut call = Request::new(request.clone());
                    call.set_timeout(CALL_TIME);
                    let under = world.calls.call(&plan.workflow_id, Ask::Start);
                    if let Ok(answer) = world.service(&mut rng).start_workflow_execution(call).await {
                        let run_id = answer.into_inner().run_id;
                        world.calls.returned(&under, Answer::Started(run_id.clone()));
                        b4_once::started(&world, &plan.workflow_id, &plan.request_id, &run_id);
                    }
                }
                let more = Rng::of(world.options.seed, &format!("updates {}", plan.request_id));
                let update = updates::update(Arc::clone(&world), plan.clone(), more);
                futures::join!(signal(world, plan, rng), update);
                return;
            }
            // Another client's run is open; it ends at some time.
            Err(status) if status.code() == Code::AlreadyExists => {
                world.calls.returned(&under, Answer::Exists);
                b4_once::start_refused(&world, &plan.workflow_id);
            }
            Err(status) if is_passing(&status) => {}
            Err(status) => return world.violated(format!("start of {}: {status}", plan.workflow_id)),
        }
        let pause = rng.millis(50..=1_000);
        sleep(pause).await;
    }
}

/// Signals a workflow until it takes no more, or for ever, if it may be reset.
async fn signal(world: Arc<World>, plan: Plan, mut rng: Rng) {
    for number in 0.. {
        let pause = rng.millis(200..=6_000);
        sleep(pause).await;
        let name = format!("{}-{number}", plan.request_id);
        let request = SignalWorkflowExecutionRequest {
            namespace: NAMESPACE.to_string(),
            workflow_execution: Some(execution(&plan.workflow_id, "")),
            signal_name: name.clone(),
            request_id: name.clone(),
            identity: "client".into(),
            ..SignalWorkflowExecutionRequest::default()
        };
        let key = (plan.workflow_id.clone(), name.clone());
        world.ledger.known.lock().signals.insert(key.clone(), false);
        loop {
            let mut call = Request::new(request.clone());
            call.set_timeout(CALL_TIME);
            let under = world.calls.call(&plan.workflow_id, Ask::Signal { request: name.clone() });
            let answer = world.service(&mut rng).signal_workflow_execution(call).await;
            let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
            world.trace.line(&format!("signal {} {name}: {code:?}", plan.workflow_id));
            match answer {
                Ok(_) => {
                    world.tally.count("signal taken");
                    world.calls.returned(&under, Answer::Done);
                    world.ledger.known.lock().signals.insert(key, true);
                    break;
                }
                Err(status) if status.code() == Code::NotFound => {
                    world.calls.returned(&under, Answer::NotFound);
                    if world.ledger.known.lock().single.contains(&plan.workflow_id) {
                        return;
                    }
                    // A reset may open it again, and then it waits for signals.
                    break;
                }
                Err(status) if is_passing(&status) => {}
                Err(status) => return world.violated(format!("signal to {}: {status}", plan.workflow_id)),
            }
            let pause = rng.millis(50..=500);
            sleep(pause).await;
        }
    }
}

/// Reads at random, for ever: histories, descriptions, queries.
pub async fn read(world: Arc<World>, mut rng: Rng) {
    loop {
        let pause = rng.millis(50..=800);
        sleep(pause).await;
        let run = {
            let known = world.ledger.known.lock();
            let runs: Vec<_> = known.runs.iter().map(|(run, of)| (of.workflow_id.clone(), run.clone())).collect();
            rng.pick(&runs).cloned()
        };
        let Some((workflow_id, run_id)) = run else { continue };
        match rng.below(3) {
            0 => drop(history(&world, &mut rng, &workflow_id, &run_id).await),
            1 => drop(describe(&world, &mut rng, &workflow_id, &run_id).await),
            _ => query(&world, &mut rng, &workflow_id, &run_id).await,
        }
    }
}

/// Reads one run at every node at once, for ever: whoever led once must not answer from what it remembers.
pub async fn compare(world: Arc<World>, mut rng: Rng) {
    loop {
        let pause = rng.millis(100..=600);
        sleep(pause).await;
        // What changed last is what a stale reader would not know.
        let Some((workflow_id, run_id)) = world.ledger.known.lock().latest.clone() else { continue };
        let reads = world.nodes().into_iter().map(|node| {
            let (world, workflow_id, run_id) = (Arc::clone(&world), workflow_id.clone(), run_id.clone());
            tokio::spawn(async move {
                let service = world.service_of(node);
                drop(describe_at(&world, service, &workflow_id, &run_id).await);
            })
        });
        // Those at nodes that are held up answer later, or never.
        let reads: Vec<_> = reads.collect();
        drop(reads);
    }
}

/// A whole history, checked against everything that was seen of the run.
///
/// # Errors
/// The call's own.
pub async fn history(
    world: &World,
    rng: &mut Rng,
    workflow_id: &str,
    run_id: &str,
) -> Result<Vec<HistoryEvent>, Status> {
    let demanded = b5_reads::demand(world, workflow_id, run_id);
    let mut events = Vec::new();
    let mut token = bytes::Bytes::new();
    loop {
        let mut request = Request::new(GetWorkflowExecutionHistoryRequest {
            namespace: NAMESPACE.to_string(),
            execution: Some(execution(workflow_id, run_id)),
            next_page_token: token,
            maximum_page_size: if rng.per_mille(300) { 3 } else { 0 },
            ..GetWorkflowExecutionHistoryRequest::default()
        });
        request.set_timeout(CALL_TIME);
        let page = world.service(rng).get_workflow_execution_history(request).await;
        let page = page.inspect_err(|status| b5_reads::failed(world, run_id, status))?.into_inner();
        events.extend(page.history.unwrap_or_default().events);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    world.tally.count("history read");
    world.trace.line(&format!("history of {workflow_id} {run_id}: {} events", events.len()));
    b2_histories::contiguous(world, workflow_id, run_id, &events);
    b2_histories::shown(world, workflow_id, run_id, &events);
    b5_reads::history(world, run_id, &demanded, &events);
    Ok(events)
}

/// The runs that are listed, and their workflow ids.
///
/// # Errors
/// The call's own.
pub async fn list(world: &World, rng: &mut Rng) -> Result<BTreeMap<String, String>, Status> {
    let mut runs = BTreeMap::new();
    let mut token = bytes::Bytes::new();
    loop {
        let mut request = Request::new(ListWorkflowExecutionsRequest {
            namespace: NAMESPACE.to_string(),
            next_page_token: token,
            ..ListWorkflowExecutionsRequest::default()
        });
        request.set_timeout(CALL_TIME);
        let page = world.service(rng).list_workflow_executions(request).await?.into_inner();
        let listed = page.executions.into_iter().filter_map(|info| info.execution);
        runs.extend(listed.map(|execution| (execution.run_id, execution.workflow_id)));
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(runs);
        }
    }
}

/// A description of a run, or of the current one.
///
/// # Errors
/// The call's own.
pub async fn describe(
    world: &World,
    rng: &mut Rng,
    workflow_id: &str,
    run_id: &str,
) -> Result<DescribeWorkflowExecutionResponse, Status> {
    let service = world.service(rng);
    describe_at(world, service, workflow_id, run_id).await
}

async fn describe_at(
    world: &World,
    mut service: Service,
    workflow_id: &str,
    run_id: &str,
) -> Result<DescribeWorkflowExecutionResponse, Status> {
    let demanded = b5_reads::demand(world, workflow_id, run_id);
    let mut request = Request::new(DescribeWorkflowExecutionRequest {
        namespace: NAMESPACE.to_string(),
        execution: Some(execution(workflow_id, run_id)),
    });
    request.set_timeout(CALL_TIME);
    let asked = Some(run_id.to_string()).filter(|run| !run.is_empty());
    let under = world.calls.call(workflow_id, Ask::Describe { run: asked });
    let answer = service.describe_workflow_execution(request).await;
    let answer = answer.inspect_err(|status| b5_reads::failed(world, run_id, status))?.into_inner();
    world.tally.count("description read");
    let info = answer.workflow_execution_info.clone().unwrap_or_default();
    world.trace.line(&format!("{workflow_id} {run_id}: {:?}, {} events", info.status(), info.history_length));
    let running = info.status() == WorkflowExecutionStatus::Running;
    let run = info.execution.clone().unwrap_or_default().run_id;
    world.calls.returned(&under, Answer::Described { run, running });
    b5_reads::described(world, run_id, &demanded, &info);
    Ok(answer)
}

async fn query(world: &World, rng: &mut Rng, workflow_id: &str, run_id: &str) {
    let demanded = b5_reads::demand(world, workflow_id, run_id);
    let mut request = Request::new(QueryWorkflowRequest {
        namespace: NAMESPACE.to_string(),
        execution: Some(execution(workflow_id, run_id)),
        query: Some(WorkflowQuery { query_type: "signals".into(), ..WorkflowQuery::default() }),
        ..QueryWorkflowRequest::default()
    });
    request.set_timeout(CALL_TIME);
    let mut service = world.service(rng);
    let answer = timeout(CALL_TIME + Duration::from_secs(1), service.query_workflow(request)).await;
    let Ok(Ok(answer)) = answer else {
        return world.tally.count("query without answer");
    };
    world.tally.count("query answered");
    let signals = script::text(answer.into_inner().query_result.as_ref()).parse().unwrap_or(0);
    world.trace.line(&format!("query of {workflow_id}: {signals} signals"));
    b5_reads::queried(world, workflow_id, &demanded, signals);
}

/// Whether the current run of a workflow id has ended for good; `None` when nobody says.
pub async fn is_closed(world: &World, rng: &mut Rng, workflow_id: &str) -> Option<bool> {
    let answer = describe(world, rng, workflow_id, "").await.ok()?;
    let info = answer.workflow_execution_info.unwrap_or_default();
    let run_id = info.execution.clone().unwrap_or_default().run_id;
    match info.status() {
        WorkflowExecutionStatus::Running | WorkflowExecutionStatus::ContinuedAsNew => Some(false),
        WorkflowExecutionStatus::Completed => Some(true),
        // A child ends with the run that started it, when that is reset to what was before.
        WorkflowExecutionStatus::Terminated if is_of_reset(world, workflow_id) => Some(true),
        other => {
            world.violated(format!("{workflow_id} {run_id} ended as {other:?}"));
            Some(true)
        }
    }
}

/// Whether it is a child of a workflow that was reset.
fn is_of_reset(world: &World, workflow_id: &str) -> bool {
    let parent = workflow_id.split_once('/').map(|(parent, _)| parent);
    parent.is_some_and(|parent| world.ledger.known.lock().reset.contains(parent))
}

pub fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: run_id.to_string() }
}
