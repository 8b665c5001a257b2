//! What a worker says of updates when it completes a workflow task: accepted, rejected, answered.
//!
//! # Contract
//! A message is taken where a command names it, or after the commands. One that makes no sense fails the
//! workflow task; one about an update that the server has lost (its leader died) is taken if it carries
//! the request.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    WorkflowExecutionUpdateAcceptedEventAttributes, WorkflowExecutionUpdateCompletedEventAttributes,
};
use bristlecone_proto::temporal::api::protocol::v1::Message as ProtocolMessage;
use bristlecone_proto::temporal::api::update::v1::{Acceptance, Rejection, Request, Response};
use prost::{Message, Name};
use prost_types::Any;

use super::{News, failed, outgoing_id};
use crate::chain::{Admitted, Run};
use crate::command::{CommandContext, CommandFailure};
use crate::draft::Draft;
use crate::validate;

const CAUSE: Cause = Cause::BadUpdateWorkflowExecutionMessage;

enum Body {
    Acceptance(Acceptance),
    Rejection(Rejection),
    Response(Response),
}

/// The message that a command names.
pub(crate) fn take(draft: &mut Draft<'_>, ctx: &mut CommandContext, message_id: &str) -> Result<(), CommandFailure> {
    if message_id.is_empty() {
        return Err(bad("MessageId is not set on ProtocolMessageCommand."));
    }
    match ctx.messages.iter().position(|message| message.id == message_id) {
        Some(at) => {
            let message = ctx.messages.remove(at);
            apply(draft, &ctx.run_id, &message)
        }
        None => Err(bad(format!("ProtocolMessageCommand referenced absent message ID {message_id}"))),
    }
}

pub(crate) fn apply(draft: &mut Draft<'_>, run_id: &str, message: &ProtocolMessage) -> Result<(), CommandFailure> {
    let id = &message.protocol_instance_id;
    let body = read(message, draft)?;
    let running = draft.run(run_id).is_running();
    if !running && !matches!(body, Body::Rejection(_)) {
        // The run closed by a command of the same answer: its updates end with it.
        return Ok(());
    }
    let mut state = state(draft.run(run_id), id);
    if state == State::Unknown {
        resurrect(draft, run_id, id, &body)?;
        state = State::Admitted;
    }
    match body {
        Body::Acceptance(acceptance) => accept(draft, run_id, id, state, &acceptance),
        Body::Rejection(rejection) => reject(draft, run_id, id, state, rejection),
        Body::Response(response) => complete(draft, run_id, id, state, response),
    }
}

/// Whether the message rejects an update: then it leaves no trace.
pub(crate) fn is_rejection(message: &ProtocolMessage) -> bool {
    message.body.as_ref().is_some_and(is::<Rejection>)
}

fn is<M: Name>(body: &Any) -> bool {
    body.type_url.rsplit('/').next() == Some(M::full_name().as_str())
}

fn read(message: &ProtocolMessage, draft: &Draft<'_>) -> Result<Body, CommandFailure> {
    let Some(body) = &message.body else { return Err(bad("message has no body")) };
    let name = body.type_url.rsplit('/').next().unwrap_or_default();
    if !validate::blob_fits(body.encoded_len(), draft.at().limits) {
        return Err(CommandFailure::fatal(CAUSE, format!("Message type {name} exceeds size limit.")));
    }
    let value = body.value.as_slice();
    let unread = |error: prost::DecodeError| bad(format!("unable to unmarshal request: {error}"));
    if is::<Acceptance>(body) {
        Acceptance::decode(value).map(Body::Acceptance).map_err(unread)
    } else if is::<Rejection>(body) {
        Rejection::decode(value).map(Body::Rejection).map_err(unread)
    } else if is::<Response>(body) {
        Response::decode(value).map(Body::Response).map_err(unread)
    } else {
        Err(bad(format!("unsupported message type {name}")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Admitted,
    Sent,
    Accepted,
    Completed,
}

fn state(run: &Run, id: &str) -> State {
    if let Some(update) = run.admitted.iter().find(|update| update.id == id) {
        return if update.sent { State::Sent } else { State::Admitted };
    }
    match run.updates.get(&id.to_string()) {
        None => State::Unknown,
        Some(update) if update.completed_event_id != 0 => State::Completed,
        Some(update) if update.accepted_event_id != 0 => State::Accepted,
        Some(_) => State::Admitted,
    }
}

/// The leader that sent the update may be gone, and its memory with it; the worker has the request.
fn resurrect(draft: &mut Draft<'_>, run_id: &str, id: &str, body: &Body) -> Result<(), CommandFailure> {
    let request = match body {
        Body::Acceptance(acceptance) => acceptance.accepted_request.clone(),
        Body::Rejection(rejection) => rejection.rejected_request.clone(),
        Body::Response(_) => None,
    };
    let Some(request) = request else {
        return Err(bad(format!(
            "update {id} wasn't found on the server. This is most likely a transient error which will be resolved \
             automatically by retries"
        )));
    };
    let run = draft.run(run_id);
    let most = draft.at().limits.updates_max;
    if most > 0 && run.admitted.len() + run.updates.len() >= most {
        return Err(bad("The limit on the total number of distinct updates in this workflow has been reached"));
    }
    draft.soft_mut(run_id).admitted.push(Admitted { id: id.into(), request: Arc::new(request), sent: true });
    Ok(())
}

fn accept(
    draft: &mut Draft<'_>,
    run_id: &str,
    id: &str,
    state: State,
    acceptance: &Acceptance,
) -> Result<(), CommandFailure> {
    if !matches!(state, State::Admitted | State::Sent) {
        return Err(illegal(id, "Acceptance", state));
    }
    if acceptance.accepted_request_sequencing_event_id == 0 {
        return Err(bad("invalid *update.Acceptance: accepted_request_sequencing_event_id is not set"));
    }
    if acceptance.accepted_request_message_id.is_empty() {
        return Err(bad("invalid *update.Acceptance: accepted_request_message_id is not set"));
    }
    let attributes = WorkflowExecutionUpdateAcceptedEventAttributes {
        protocol_instance_id: id.to_string(),
        accepted_request_message_id: outgoing_id(id),
        accepted_request_sequencing_event_id: acceptance.accepted_request_sequencing_event_id,
        accepted_request: forget(draft, run_id, id),
    };
    draft.add(run_id, Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(attributes));
    draft.tell(run_id, id, News::Accepted);
    Ok(())
}

fn reject(
    draft: &mut Draft<'_>,
    run_id: &str,
    id: &str,
    state: State,
    rejection: Rejection,
) -> Result<(), CommandFailure> {
    if !matches!(state, State::Admitted | State::Sent) {
        return Err(illegal(id, "Rejection", state));
    }
    if forget(draft, run_id, id).is_none() {
        // History tells that it was admitted, and nothing more will.
        draft.begin_transition(run_id);
        draft.run_mut(run_id).updates.remove(&id.to_string());
    }
    draft.tell(run_id, id, News::Completed(failed(rejection.failure.unwrap_or_default()).into()));
    Ok(())
}

fn complete(
    draft: &mut Draft<'_>,
    run_id: &str,
    id: &str,
    state: State,
    response: Response,
) -> Result<(), CommandFailure> {
    if state != State::Accepted {
        return Err(illegal(id, "Response", state));
    }
    let Some(meta) = &response.meta else { return Err(bad("invalid *update.Response: meta is not set")) };
    if meta.update_id.is_empty() {
        return Err(bad("invalid *update.Response: meta.update_id is not set"));
    }
    if meta.update_id != id {
        return Err(bad(format!("invalid *update.Response: meta.update_id != {id}")));
    }
    let Some(outcome) = response.outcome else { return Err(bad("invalid *update.Response: outcome is not set")) };
    let accepted_event_id = draft.run(run_id).updates.get(&id.to_string()).map_or(0, |u| u.accepted_event_id);
    let attributes = WorkflowExecutionUpdateCompletedEventAttributes {
        meta: response.meta,
        accepted_event_id,
        outcome: Some(outcome.clone()),
    };
    draft.add(run_id, Attributes::WorkflowExecutionUpdateCompletedEventAttributes(attributes));
    draft.tell(run_id, id, News::Completed(outcome.into()));
    Ok(())
}

/// Takes the update out of memory; its request.
fn forget(draft: &mut Draft<'_>, run_id: &str, id: &str) -> Option<Request> {
    let at = draft.run(run_id).admitted.iter().position(|update| update.id == id)?;
    Some(Arc::unwrap_or_clone(draft.soft_mut(run_id).admitted.remove(at).request))
}

fn illegal(id: &str, message: &str, state: State) -> CommandFailure {
    bad(format!(
        "invalid state transition attempted for Update {id}: received *update.{message} message while in state \
         {state:?}"
    ))
}

fn bad(message: impl Into<String>) -> CommandFailure {
    CommandFailure::new(CAUSE, message)
}
