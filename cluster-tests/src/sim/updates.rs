//! Updates and resets: clients that ask for them, and what a worker answers to an update.
//!
//! # Contract
//! An update's outcome names its id and a number that the worker draws, so that one which is carried out twice shows.
//! It is repeated under its id until its outcome is known. Resets are asked of workflow ids that nobody counts the
//! runs of.

use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::temporal::api::command::v1::command::Attributes as CommandAttributes;
use bristlecone_proto::temporal::api::command::v1::{Command, ProtocolMessageCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::{CommandType, EventType, UpdateWorkflowExecutionLifecycleStage};
use bristlecone_proto::temporal::api::failure::v1::Failure;
use bristlecone_proto::temporal::api::protocol::v1::Message as ProtocolMessage;
use bristlecone_proto::temporal::api::protocol::v1::message::SequencingId;
use bristlecone_proto::temporal::api::update::v1::{
    self as update, Acceptance, Meta, Outcome, Rejection, Response, WaitPolicy, outcome,
};
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ResetWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
};
use prost::{Message, Name};
use tokio::time::sleep;
use tonic::{Code, Request, Status};

use super::clients::{self, Plan, execution};
use super::invariants::b4_schedules::is_scheduled;
use super::invariants::{b4_once, b5_reads};
use super::rng::Rng;
use super::script;
use super::worker::is_passing;
use super::world::World;

const CALL_TIME: Duration = Duration::from_secs(5);
/// Resets of one run of the simulation: each begins a workflow anew, and all have to end.
const RESETS_MAX: u64 = 4;

/// Updates a workflow until it takes no more.
pub async fn update(world: Arc<World>, plan: Plan, mut rng: Rng) {
    if !rng.per_mille(world.options.updated) {
        return;
    }
    for number in 0.. {
        let pause = rng.millis(300..=8_000);
        sleep(pause).await;
        let id = format!("u-{}-{number}", plan.request_id);
        if !update_once(&world, &mut rng, &plan.workflow_id, &id).await {
            return;
        }
    }
}

/// One update, until its outcome is known; false when the workflow takes none.
async fn update_once(world: &Arc<World>, rng: &mut Rng, workflow_id: &str, id: &str) -> bool {
    let meta = Meta { update_id: id.to_string(), identity: "client".into() };
    let input = update::Input { name: "note".into(), args: Some(script::payload(id)), ..update::Input::default() };
    let request = UpdateWorkflowExecutionRequest {
        namespace: clients::NAMESPACE.to_string(),
        workflow_execution: Some(execution(workflow_id, "")),
        wait_policy: Some(WaitPolicy { lifecycle_stage: UpdateWorkflowExecutionLifecycleStage::Completed.into() }),
        request: Some(update::Request { meta: Some(meta), input: Some(input), ..update::Request::default() }),
        ..UpdateWorkflowExecutionRequest::default()
    };
    loop {
        let mut call = Request::new(request.clone());
        call.set_timeout(CALL_TIME);
        let answer = world.service(rng).update_workflow_execution(call).await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        world.trace.line(&format!("update {workflow_id} {id}: {code:?}"));
        match answer.map(|answer| answer.into_inner().outcome) {
            Ok(Some(outcome @ Outcome { value: Some(outcome::Value::Success(_)) })) => {
                world.tally.count("update done");
                b4_once::updated(world, workflow_id, id, &outcome_text(Some(&outcome)));
                return true;
            }
            Ok(Some(_)) => {
                world.tally.count("update refused");
                return true;
            }
            // Not that far yet.
            Ok(None) => {}
            Err(status) if status.code() == Code::NotFound => return false,
            // Its worker failed at it; a later task may do better.
            Err(status) if is_passing(&status) || is_not_ready(&status) => {}
            Err(status) => {
                world.violated(format!("update of {workflow_id}: {status}"));
                return false;
            }
        }
        let pause = rng.millis(50..=500);
        sleep(pause).await;
    }
}

/// The workflow's task fails again and again, or failed with the update in it.
fn is_not_ready(status: &Status) -> bool {
    let begins = "Unable to perform workflow execution update due to";
    status.code() == Code::FailedPrecondition && status.message().starts_with(begins)
}

/// What came of an update that did not fail.
pub fn outcome_text(outcome: Option<&Outcome>) -> String {
    match outcome.and_then(|outcome| outcome.value.as_ref()) {
        Some(outcome::Value::Success(result)) => script::text(Some(result)),
        _ => String::new(),
    }
}

/// What a worker says of the updates that came with a task.
#[derive(Debug, Default)]
pub struct Answers {
    pub messages: Vec<ProtocolMessage>,
    /// To come before the commands of the workflow.
    pub commands: Vec<Command>,
}

/// Accepts and completes most updates, rejects some.
pub fn answer(messages: &[ProtocolMessage], rng: &mut Rng) -> Answers {
    let mut answers = Answers::default();
    for message in messages {
        let Some(request) = message.body.as_ref().and_then(|body| update::Request::decode(&body.value[..]).ok()) else {
            continue;
        };
        let id = message.protocol_instance_id.clone();
        let event = match message.sequencing_id {
            Some(SequencingId::EventId(event)) => event,
            _ => 0,
        };
        if rng.per_mille(150) {
            let rejection = Rejection {
                rejected_request_message_id: message.id.clone(),
                rejected_request_sequencing_event_id: event,
                rejected_request: Some(request),
                failure: Some(Failure { message: "as the seed has it".into(), ..Failure::default() }),
            };
            answers.messages.push(says(&id, "reject", &rejection));
            continue;
        }
        let meta = request.meta.clone();
        let acceptance = Acceptance {
            accepted_request_message_id: message.id.clone(),
            accepted_request_sequencing_event_id: event,
            accepted_request: Some(request),
        };
        let result = script::payload(&format!("{id} {:x}", rng.next()));
        let outcome = Some(Outcome { value: Some(outcome::Value::Success(result)) });
        for said in [says(&id, "accept", &acceptance), says(&id, "complete", &Response { meta, outcome })] {
            answers.commands.push(names(&said.id));
            answers.messages.push(said);
        }
    }
    answers
}

fn says<M: Message + Name>(update: &str, what: &str, body: &M) -> ProtocolMessage {
    let body =
        prost_types::Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: body.encode_to_vec() };
    ProtocolMessage {
        id: format!("{update}/{what}"),
        protocol_instance_id: update.to_string(),
        body: Some(body),
        ..ProtocolMessage::default()
    }
}

fn names(message: &str) -> Command {
    let attributes = ProtocolMessageCommandAttributes { message_id: message.to_string() };
    Command {
        command_type: CommandType::ProtocolMessage.into(),
        attributes: Some(CommandAttributes::ProtocolMessageCommandAttributes(attributes)),
        ..Command::default()
    }
}

/// Resets workflows that several clients want, now and then.
pub async fn reset(world: Arc<World>, mut rng: Rng) {
    if !rng.per_mille(world.options.reset) {
        return;
    }
    for number in 0..RESETS_MAX {
        let pause = rng.millis(2_000..=9_000);
        sleep(pause).await;
        let runs: Vec<(String, String)> = {
            let known = world.ledger.known.lock();
            let counted = |workflow_id: &str| {
                known.single.contains(workflow_id) || workflow_id.contains('/') || is_scheduled(workflow_id)
            };
            let runs = known.runs.iter().filter(|(_, run)| !counted(&run.workflow_id));
            runs.map(|(run_id, run)| (run.workflow_id.clone(), run_id.clone())).collect()
        };
        let Some((workflow_id, run_id)) = rng.pick(&runs).cloned() else { continue };
        let Ok(events) = clients::history(&world, &mut rng, &workflow_id, &run_id).await else { continue };
        let ends = events.iter().filter(|event| event.event_type() == EventType::WorkflowTaskCompleted);
        let ends: Vec<i64> = ends.map(|event| event.event_id).collect();
        let Some(end) = rng.pick(&ends).copied() else { continue };
        reset_once(&world, &mut rng, (&workflow_id, &run_id), end, &format!("reset-{number}")).await;
    }
}

async fn reset_once(world: &Arc<World>, rng: &mut Rng, (workflow_id, run_id): (&str, &str), end: i64, request: &str) {
    // From now on its events are there twice.
    world.ledger.known.lock().reset.insert(workflow_id.to_string());
    for _ in 0..6 {
        let mut call = Request::new(ResetWorkflowExecutionRequest {
            namespace: clients::NAMESPACE.to_string(),
            workflow_execution: Some(execution(workflow_id, run_id)),
            reason: "as the seed has it".into(),
            workflow_task_finish_event_id: end,
            request_id: request.to_string(),
            ..ResetWorkflowExecutionRequest::default()
        });
        call.set_timeout(CALL_TIME);
        let answer = world.service(rng).reset_workflow_execution(call).await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        world.trace.line(&format!("{request} of {workflow_id} {run_id} to {end}: {code:?}"));
        match answer {
            Ok(answer) => {
                world.tally.count("workflow reset");
                return b4_once::reset(world, workflow_id, request, &answer.into_inner().run_id);
            }
            Err(status) if is_passing(&status) => {}
            Err(status) => {
                world.tally.count("reset refused");
                return b5_reads::failed(world, run_id, &status);
            }
        }
        let pause = rng.millis(50..=500);
        sleep(pause).await;
    }
}
