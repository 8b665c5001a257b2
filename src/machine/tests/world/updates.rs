//! Updates, update-with-start and resets, and what workers say of updates.

use bristlecone_machine::Run;
use bristlecone_proto::chain::{Reset, UpdateWithStart, input};
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::protocol::v1::Message;
use bristlecone_proto::temporal::api::update::v1::{
    Acceptance, Input, Meta, Outcome, Rejection, Request, Response, outcome,
};
use bristlecone_proto::temporal::api::workflowservice::v1::respond_workflow_task_completed_request::Capabilities;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    ResetWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
};
use prost::Name;
use prost_types::Any;

use super::ops::Shape;
use super::{World, commands, execution};
use commands::name;

const SHAPE: Shape = Shape {
    run_timeout_s: 0,
    execution_timeout_s: 0,
    retries: false,
    cron: false,
    delay_s: 0,
    eager: false,
    attach: false,
};

impl World {
    pub(super) fn update(&mut self, workflow: u8, update: u8) {
        self.send(&name(workflow), input::Kind::Update(request(workflow, update)));
    }

    pub(super) fn update_with_start(&mut self, workflow: u8, update: u8, start: u8, conflict: i32) {
        let both = UpdateWithStart {
            start: Some(commands::start(workflow, start, conflict, 0, &SHAPE)),
            update: Some(request(workflow, update)),
        };
        self.send(&name(workflow), input::Kind::UpdateWithStart(both));
    }

    pub(super) fn reset(&mut self, workflow: u8, point: u8, request: u8, former: bool) {
        let workflow_id = name(workflow);
        let Some(store) = self.shell.store(&workflow_id) else { return };
        let current = self.current(&workflow_id).map(|run| run.id.clone()).unwrap_or_default();
        let run_id = store.run_ids().into_iter().find(|id| former && *id != current).unwrap_or(current);
        let may_do = |kind: EventType| {
            matches!(
                kind,
                EventType::WorkflowTaskStarted
                    | EventType::WorkflowTaskCompleted
                    | EventType::WorkflowTaskFailed
                    | EventType::WorkflowTaskTimedOut
            )
        };
        let events = store.batches(&run_id).concat();
        let points: Vec<i64> = events.iter().filter(|e| may_do(e.event_type())).map(|e| e.event_id).collect();
        let Some(point) = points.get(usize::from(point) % points.len().max(1)) else { return };
        let reset = ResetWorkflowExecutionRequest {
            workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id: run_id.clone() }),
            reason: "again".into(),
            workflow_task_finish_event_id: *point,
            request_id: format!("reset-{request}"),
            ..ResetWorkflowExecutionRequest::default()
        };
        let runs = self.shell.histories(&workflow_id, &run_id);
        self.send(&workflow_id, input::Kind::Reset(Reset { request: Some(reset), runs }));
    }
}

fn request(workflow: u8, update: u8) -> UpdateWorkflowExecutionRequest {
    UpdateWorkflowExecutionRequest {
        workflow_execution: Some(execution(workflow)),
        request: Some(Request {
            meta: Some(Meta { update_id: format!("u{update}"), ..Meta::default() }),
            input: Some(Input { name: "up".into(), ..Input::default() }),
            ..Request::default()
        }),
        ..UpdateWorkflowExecutionRequest::default()
    }
}

/// What a worker says of the updates that it has: one thing or another, by `chance`.
pub(super) fn messages(run: &Run, chance: u64) -> Vec<Message> {
    let mut messages = Vec::new();
    for (at, update) in run.admitted.iter().enumerate().filter(|(_, update)| update.sent) {
        match (chance + at as u64) % 5 {
            0 => messages.push(accept(&update.id)),
            1 | 2 => messages.extend([accept(&update.id), respond(&update.id)]),
            3 => messages.push(message(&update.id, &Rejection::default())),
            _ => {}
        }
    }
    let accepted = |u: &bristlecone_proto::record::Update| u.accepted_event_id != 0 && u.completed_event_id == 0;
    for (at, (id, _)) in run.updates.iter().filter(|(_, update)| accepted(update)).enumerate() {
        if (chance + at as u64).is_multiple_of(2) {
            messages.push(respond(id));
        }
    }
    for (at, (id, update)) in run.updates.iter().enumerate() {
        if update.accepted_event_id == 0 {
            match (chance + at as u64) % 3 {
                0 => messages.push(accept(id)),
                1 => messages.push(message(id, &Rejection::default())),
                _ => {}
            }
        }
    }
    messages
}

pub(super) fn capabilities(chance: u64) -> Capabilities {
    Capabilities { discard_speculative_workflow_task_with_events: !chance.is_multiple_of(4) }
}

fn accept(id: &str) -> Message {
    let acceptance = Acceptance {
        accepted_request_message_id: format!("{id}/request"),
        accepted_request_sequencing_event_id: 1,
        ..Acceptance::default()
    };
    message(id, &acceptance)
}

fn respond(id: &str) -> Message {
    let response = Response {
        meta: Some(Meta { update_id: id.into(), ..Meta::default() }),
        outcome: Some(Outcome { value: Some(outcome::Value::Success(Default::default())) }),
    };
    message(id, &response)
}

fn message<M: prost::Message + Name>(id: &str, body: &M) -> Message {
    let body = Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: body.encode_to_vec() };
    Message { id: format!("{id}/{}", M::NAME), protocol_instance_id: id.into(), body: Some(body), ..Message::default() }
}
