//! Messages between chains: each is taken exactly once, and its answer applied exactly once.
//!
//! # Contract
//! A message is a row of the sender ([`crate::Row::Send`]) until its answer is applied. The shell delivers
//! it again and again, in order per pair of chains, until it has an answer, and hands that to the sender
//! as [`Answer`]. The receiver keeps a receipt with its answer, in the step that has the effect: a
//! message that comes again gets the answer that it had, and has no effect.
//!
//! | dies after | what is left | what recovers it |
//! |---|---|---|
//! | the row is written | the row | it is delivered |
//! | the effect | row, receipt | delivered again; the receipt answers |
//! | the answer is applied | receipt | the sender's shell sends [`Forget`] |
//!
//! Rejections that say «not now» leave no receipt and no answer: the row stays and is delivered again.
//!
//! # Used by
//! `lib.rs`, the shell's outbox.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bristlecone_proto::chain::{
    Answer, ChainId, Forget, Origin, Rejection, Reply, StartChild, input, reply::Kind as ReplyKind,
};
use bristlecone_proto::record;
use prost::Message;

use crate::chain::{Chain, ReceiptKey, Run};
use crate::draft::Draft;
use crate::row::Row;
use crate::{Step, child, external, reply, schedule};

// ---------------------------------------------------------------- receiving

/// The answer that a message had when it came first; `None`: it comes for the first time.
pub(crate) fn answered_before(chain: &Chain, origin: &Origin) -> Option<Reply> {
    let receipt = chain.receipts.get(&key(origin.sender.as_ref()?, origin.sequence))?;
    // A receipt is an answer of this core, so it can be read; were it not, «done» ends the repetition.
    Some(Reply::decode(receipt.reply.clone()).unwrap_or_else(|_| reply::done()))
}

/// Adds the receipt of a message to the step that took it.
pub(crate) fn with_receipt(chain: &Chain, origin: &Origin, step: Step) -> Step {
    let Some(sender) = &origin.sender else { return step };
    if rejection(&step.reply).is_some_and(is_temporary) {
        return step;
    }
    let Step { next, mut rows, reply, offers, news } = step;
    let mut next = next.unwrap_or_else(|| chain.clone());
    let key = key(sender, origin.sequence);
    let receipt = record::Receipt { reply: reply.encode_to_vec().into() };
    next.receipts.put(key.clone(), receipt.clone());
    rows.push(Row::Receipt { key, receipt: Some(receipt.into()) });
    Step { next: Some(next), rows, reply, offers, news }
}

/// The sender's row is gone: nobody will repeat the message.
pub(crate) fn forget(mut draft: Draft<'_>, input: &Forget) -> Step {
    let known = input.sender.as_ref().is_some_and(|sender| draft.forget_receipt(&key(sender, input.sequence)));
    if known { draft.finish(reply::done()) } else { draft.unchanged(reply::done()) }
}

fn key(sender: &ChainId, sequence: u64) -> ReceiptKey {
    ReceiptKey { namespace_id: sender.namespace_id.clone(), workflow_id: sender.workflow_id.clone(), sequence }
}

// ---------------------------------------------------------------- sending

/// The receiver answered: the row goes, and what it was for goes on. An answer that comes again finds
/// no row.
pub(crate) fn answer(mut draft: Draft<'_>, input: &Answer) -> Step {
    let Some(send) = draft.chain().sends.get(&input.sequence).cloned() else { return draft.unchanged(reply::done()) };
    if input.run_id != send.run_id {
        // The run that wrote the row may not be loaded: the answer would be lost on it.
        return draft.reject(reply::invalid_argument("the answer names another run than the one that waits for it"));
    }
    let answer = match input.reply.as_ref().and_then(|reply| reply.kind.clone()) {
        Some(ReplyKind::Rejected(rejection)) if is_temporary(&rejection) => return draft.unchanged(reply::done()),
        Some(ReplyKind::Rejected(rejection)) => Err(rejection),
        Some(kind) => Ok(kind),
        None => return draft.reject(reply::invalid_argument("Request is nil.")),
    };
    draft.take_send(input.sequence);
    let target = send.target.unwrap_or_default();
    match send.input.and_then(|input| input.kind) {
        Some(input::Kind::StartChild(message)) => {
            child::answered(&mut draft, &send.run_id, &message, &target, &answer);
        }
        Some(input::Kind::SignalExternal(message)) => {
            external::signal_answered(&mut draft, &send.run_id, &message, &answer);
        }
        Some(input::Kind::CancelExternal(message)) => {
            external::cancel_answered(&mut draft, &send.run_id, &message, &answer);
        }
        Some(input::Kind::AwaitChild(message)) => child::awaited(&mut draft, &send.run_id, &message, &answer),
        Some(input::Kind::ScheduledStart(message)) => schedule::started(&mut draft, &message, &answer),
        Some(input::Kind::ScheduledWatch(message)) => schedule::watched(&mut draft, &message, &target, &answer),
        // Nothing follows from the answers to the other messages.
        _ => {}
    }
    draft.finish(reply::done())
}

/// Takes back what the run asked of other workflows in this very step: it closes, and nobody would hear
/// the answer. Returns the initiated event ids of the children that will not be started.
pub(crate) fn take_back(draft: &mut Draft<'_>, run_id: &str) -> Vec<i64> {
    let mut children = Vec::new();
    let new: Vec<u64> = draft.new_sends(run_id).collect();
    for sequence in new {
        match draft.chain().sends.get(&sequence).and_then(|send| send.input.as_ref()?.kind.as_ref()) {
            Some(input::Kind::StartChild(message)) => children.push(message.initiated_event_id),
            Some(input::Kind::SignalExternal(_) | input::Kind::CancelExternal(_)) => {}
            _ => continue,
        }
        draft.take_send(sequence);
    }
    children
}

/// The message that starts a child, while its answer is awaited.
pub(crate) fn start_child_of(draft: &Draft<'_>, run_id: &str, initiated_event_id: i64) -> Option<Box<StartChild>> {
    draft.chain().sends.iter().filter(|(_, send)| send.run_id == run_id).find_map(|(_, send)| {
        match send.input.as_ref()?.kind.as_ref()? {
            input::Kind::StartChild(message) if message.initiated_event_id == initiated_event_id => {
                Some(message.clone())
            }
            _ => None,
        }
    })
}

/// Whether everything that the run asked of other workflows still waits in the outbox for its answer.
pub(crate) fn check(chain: &Chain, run: &Run) -> Result<(), String> {
    let mut waiting = BTreeSet::new();
    // After a reset, answers to the former run may be for this one.
    let was_reset = run.head.reset_start_time.is_some();
    for (_, send) in chain.sends.iter().filter(|(_, send)| was_reset || send.run_id == run.id) {
        waiting.extend(send.input.as_ref().and_then(|input| input.kind.as_ref()).and_then(initiated_event_id));
    }
    let not_started = run.children.iter().filter(|(_, child)| child.started_event_id == 0).map(|(id, _)| id);
    let signals = run.external_signals.iter().map(|(id, _)| id);
    let cancels = run.external_cancels.iter().map(|(id, _)| id);
    match not_started.chain(signals).chain(cancels).find(|id| !waiting.contains(id)) {
        Some(id) => Err(format!("nobody answers what event {id} initiated")),
        None => Ok(()),
    }
}

/// The event whose pending row waits for the answer to the message.
fn initiated_event_id(message: &input::Kind) -> Option<i64> {
    match message {
        input::Kind::StartChild(message) => Some(message.initiated_event_id),
        input::Kind::SignalExternal(message) => Some(message.initiated_event_id),
        input::Kind::CancelExternal(message) => Some(message.initiated_event_id),
        _ => None,
    }
}

/// Whether a rejection says that the namespace does not exist (any more).
pub(crate) fn is_namespace_not_found(rejection: &Rejection) -> bool {
    rejection
        .detail
        .as_ref()
        .is_some_and(|detail| detail.type_url.ends_with("errordetails.v1.NamespaceNotFoundFailure"))
}

fn rejection(reply: &Reply) -> Option<&Rejection> {
    match &reply.kind {
        Some(ReplyKind::Rejected(rejection)) => Some(rejection),
        _ => None,
    }
}

/// Whether a message that was answered so has to be delivered again.
pub fn is_for_later(reply: &Reply) -> bool {
    rejection(reply).is_some_and(is_temporary)
}

/// Whether the same message may be taken another time.
fn is_temporary(rejection: &Rejection) -> bool {
    use reply::code;
    !matches!(rejection.code, code::NOT_FOUND | code::ALREADY_EXISTS | code::INVALID_ARGUMENT | code::PERMISSION_DENIED)
}
