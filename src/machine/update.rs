//! Updates: requests that a worker accepts or rejects, and answers.
//!
//! # Contract
//! | state | where | by | next |
//! |---|---|---|---|
//! | – | | a request | admitted |
//! | admitted | in memory ([`crate::chain::Admitted`]) | a workflow task that starts | sent |
//! | admitted, sent | in memory | the worker's rejection, or its silence about a sent one | gone, its caller hears why |
//! | admitted, sent | in memory | the worker's acceptance (an event) | accepted |
//! | accepted | a row | the worker's response (an event) | completed |
//! | admitted, sent | in memory | the end of the run | gone: `NOT_FOUND`, or on to the run that follows |
//! | accepted | a row | the end of the run | failed for good |
//!
//! An update that no worker has accepted leaves no trace: it is lost with the leader's memory, and its
//! caller asks again under the same id. An admitted update always has a workflow task that carries it,
//! if need be a speculative one (`draft/speculative.rs`), which is in memory only too.
//!
//! The caller waits in the shell; [`crate::Step::news`] says what became of updates.

mod admit;
pub(crate) mod message;
mod news;
mod with_start;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::chain::{Rejection, UpdateStatus, reply::Kind};
use bristlecone_proto::temporal::api::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use bristlecone_proto::temporal::api::failure::v1::failure::FailureInfo;
use bristlecone_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure};
use bristlecone_proto::temporal::api::protocol::v1::Message as ProtocolMessage;
use bristlecone_proto::temporal::api::protocol::v1::message::SequencingId;
use bristlecone_proto::temporal::api::update::v1::{Outcome, outcome};
use bristlecone_proto::temporal::api::workflowservice::v1::PollWorkflowExecutionUpdateRequest;
use prost::{Message, Name};
use prost_types::Any;

use crate::chain::Run;
use crate::draft::Draft;
use crate::{Step, reply};

pub(crate) use admit::update;
pub use news::{News, UpdateNews};
pub(crate) use with_start::update_with_start;

/// Where an update stands that may be finished long since.
pub(crate) fn poll(draft: Draft<'_>, request: &PollWorkflowExecutionUpdateRequest) -> Step {
    let Some(reference) = &request.update_ref else {
        return draft.reject(reply::invalid_argument("UpdateRef is not set on request."));
    };
    let found = draft.find(reference.workflow_execution.as_ref()).and_then(|run_id| {
        let id = &reference.update_id;
        status(draft.run(&run_id), id).ok_or_else(|| reply::not_found(format!("update {id:?} not found")))
    });
    match found {
        Ok(status) => draft.unchanged(reply::of(Kind::Update(status))),
        Err(rejection) => draft.reject(rejection),
    }
}

/// How far the update has come; `None`: the run knows none with this id.
pub(crate) fn status(run: &Run, update_id: &str) -> Option<UpdateStatus> {
    let status = |stage: Stage| UpdateStatus {
        run_id: run.id.clone(),
        update_id: update_id.to_string(),
        stage: stage.into(),
        ..UpdateStatus::default()
    };
    if run.admitted.iter().any(|update| update.id == update_id) {
        return Some(status(Stage::Admitted));
    }
    let update = run.updates.get(&update_id.to_string())?;
    Some(if update.completed_event_id != 0 {
        UpdateStatus { completed_event_id: update.completed_event_id, ..status(Stage::Completed) }
    } else if update.accepted_event_id == 0 {
        status(Stage::Admitted)
    } else if run.is_running() {
        status(Stage::Accepted)
    } else {
        UpdateStatus { outcome: Some(failed(run_closed())), ..status(Stage::Completed) }
    })
}

/// Updates of the run that are not completed.
pub(crate) fn in_flight(run: &Run) -> usize {
    run.admitted.len() + run.updates.iter().filter(|(_, update)| update.completed_event_id == 0).count()
}

/// What goes to the worker with a workflow task that starts: every update that waits for its verdict;
/// with a task that only keeps the former one alive, those that the worker does not have yet.
pub(crate) fn send(
    draft: &mut Draft<'_>,
    run_id: &str,
    started_event_id: i64,
    heartbeat: bool,
) -> Vec<ProtocolMessage> {
    if draft.run(run_id).admitted.is_empty() {
        return Vec::new();
    }
    let mut messages = Vec::new();
    for update in draft.soft_mut(run_id).admitted.iter_mut().filter(|update| !heartbeat || !update.sent) {
        update.sent = true;
        messages.push(request_message(&update.id, &*update.request, started_event_id));
    }
    messages
}

/// As [`send`], for a start that is told again.
pub(crate) fn sent(run: &Run, started_event_id: i64) -> Vec<ProtocolMessage> {
    let sent = run.admitted.iter().filter(|update| update.sent);
    sent.map(|update| request_message(&update.id, &*update.request, started_event_id)).collect()
}

fn request_message<M: Message + Name>(id: &str, request: &M, started_event_id: i64) -> ProtocolMessage {
    let type_url = format!("type.googleapis.com/{}", M::full_name());
    ProtocolMessage {
        id: outgoing_id(id),
        protocol_instance_id: id.to_string(),
        body: Some(Any { type_url, value: request.encode_to_vec() }),
        sequencing_id: Some(SequencingId::EventId(started_event_id - 1)),
    }
}

/// Id of the message that asks the worker.
fn outgoing_id(update_id: &str) -> String {
    format!("{update_id}/request")
}

fn failed(failure: Failure) -> Outcome {
    Outcome { value: Some(outcome::Value::Failure(failure)) }
}

fn run_closed() -> Failure {
    server_failure(
        "Workflow Update failed because the Workflow completed before the Update completed.",
        "AcceptedUpdateCompletedWorkflow",
    )
}

fn unprocessed() -> Failure {
    server_failure(
        "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not \
         supported by the worker.",
        "UnprocessedUpdate",
    )
}

fn server_failure(message: &str, failure_type: &str) -> Failure {
    let info = ApplicationFailureInfo { r#type: failure_type.to_string(), non_retryable: true, ..Default::default() };
    Failure {
        message: message.to_string(),
        source: "Server".to_string(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Failure::default()
    }
}

/// What the callers of updates hear that the run's end cut off.
pub(crate) fn aborted_by_closing() -> Rejection {
    reply::not_found("workflow update was aborted by closing workflow")
}
