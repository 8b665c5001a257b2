//! What requests and commands have to satisfy, and the defaults that they get.
//!
//! # Contract
//! Each check answers with the text for the caller; a handler makes it an `INVALID_ARGUMENT`, a command
//! a failed workflow task. Sizes are encoded bytes. Checks that also fill in defaults return the
//! completed value and leave their argument alone.

pub(crate) mod activity;
pub(crate) mod failure;
mod json;
pub(crate) mod retry_policy;
pub(crate) mod search_attributes;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use bristlecone_proto::temporal::api::common::v1::{Link, Memo, Payloads, Priority, link};
use bristlecone_proto::temporal::api::enums::v1::{EventType, TaskQueueKind};
use bristlecone_proto::temporal::api::sdk::v1::UserMetadata;
use bristlecone_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost::Message;
use prost_types::Duration;

use crate::stamp::Limits;

pub const BLOB_TOO_LARGE: &str = "Blob data size exceeds limit.";
pub(crate) const MEMO_TOO_LARGE: &str = "Memo size exceeds limit.";

/// Longer durations are cut to this: a hundred years.
const DURATION_SECONDS_MAX: i64 = 100 * 365 * 24 * 3600;

/// An id, name or type of a request: not empty, not too long.
pub fn required(value: &str, what: &str, limits: &Limits) -> Result<(), String> {
    if value.is_empty() {
        return Err(format!("{what} is not set on request."));
    }
    length(value, what, limits)
}

/// An id, name or type of a request that may be empty.
pub fn length(value: &str, what: &str, limits: &Limits) -> Result<(), String> {
    if value.len() > limits.id_bytes_max { Err(format!("{what} length exceeds limit.")) } else { Ok(()) }
}

/// A duration that is not negative, cut to a hundred years.
pub fn duration(value: Option<&Duration>) -> Result<Option<Duration>, &'static str> {
    let Some(value) = value else { return Ok(None) };
    if (value.seconds > 0 && value.nanos < 0) || (value.seconds < 0 && value.nanos > 0) {
        return Err("duration has seconds and nanos with different signs");
    }
    if value.seconds < 0 || value.nanos < 0 {
        return Err("negative duration");
    }
    if value.seconds >= DURATION_SECONDS_MAX {
        return Ok(Some(Duration { seconds: DURATION_SECONDS_MAX, nanos: 0 }));
    }
    Ok(Some(*value))
}

/// The queue that a request or command names; `default_name` stands in for an empty name.
pub fn task_queue(queue: Option<&TaskQueue>, default_name: &str, limits: &Limits) -> Result<TaskQueue, String> {
    let Some(queue) = queue else { return Err("taskQueue is not set".to_owned()) };
    let mut queue = queue.clone();
    if queue.kind() == TaskQueueKind::Unspecified {
        queue.kind = TaskQueueKind::Normal.into();
    }
    if queue.name.is_empty() {
        default_name.clone_into(&mut queue.name);
    }
    if queue.name.is_empty() {
        return Err("missing task queue name".to_owned());
    }
    queue_name(&queue.name, limits)?;
    if queue.kind() == TaskQueueKind::Sticky && queue.normal_name.len() > limits.id_bytes_max {
        return Err(QUEUE_TOO_LONG.to_owned());
    }
    Ok(queue)
}

const QUEUE_TOO_LONG: &str = "taskQueue length exceeds limit";

fn queue_name(name: &str, limits: &Limits) -> Result<(), String> {
    const RESERVED: &str = "/_sys/";
    if name.len() > limits.id_bytes_max {
        return Err(QUEUE_TOO_LONG.to_owned());
    }
    if name.starts_with(RESERVED) {
        return Err(format!("task queue name cannot start with reserved prefix {RESERVED}"));
    }
    Ok(())
}

pub(crate) fn priority(priority: Option<&Priority>) -> Result<(), &'static str> {
    const FAIRNESS_KEY_BYTES_MAX: usize = 64;
    let Some(priority) = priority else { return Ok(()) };
    if priority.priority_key < 0 {
        return Err("priority key can't be negative");
    }
    if priority.fairness_key.len() > FAIRNESS_KEY_BYTES_MAX {
        return Err("fairness key length exceeds limit");
    }
    if priority.fairness_weight < 0.0 {
        return Err("must be greater than zero");
    }
    Ok(())
}

pub(crate) fn blob_fits(bytes: usize, limits: &Limits) -> bool {
    bytes <= limits.blob_bytes_max
}

pub fn payloads_fit(payloads: Option<&Payloads>, limits: &Limits) -> bool {
    blob_fits(encoded_len(payloads), limits)
}

pub(crate) fn memo_fits(memo: Option<&Memo>, limits: &Limits) -> bool {
    encoded_len(memo) <= limits.memo_bytes_max
}

pub(crate) fn encoded_len<M: Message>(message: Option<&M>) -> usize {
    message.map_or(0, Message::encoded_len)
}

pub(crate) fn links(links: &[Link], limits: &Limits) -> Result<(), String> {
    if links.len() > limits.links_max {
        return Err(format!("cannot attach more than {} links per request, got {}", limits.links_max, links.len()));
    }
    for link in links {
        let bytes = link.encoded_len();
        if bytes > limits.link_bytes_max {
            return Err(format!("link exceeds allowed size of {}, got {bytes}", limits.link_bytes_max));
        }
        link_variant(link)?;
    }
    Ok(())
}

fn link_variant(link: &Link) -> Result<(), String> {
    use link::workflow_event::Reference;
    let event = match &link.variant {
        Some(link::Variant::WorkflowEvent(event)) => event,
        Some(link::Variant::BatchJob(job)) if job.job_id.is_empty() => {
            return Err("batch job link must not have an empty job ID".to_owned());
        }
        Some(link::Variant::BatchJob(_)) => return Ok(()),
        _ => return Err("unsupported link variant".to_owned()),
    };
    let fields = [(&event.namespace, "namespace"), (&event.workflow_id, "workflow ID"), (&event.run_id, "run ID")];
    for (value, field) in fields {
        if value.is_empty() {
            return Err(format!("workflow event link must not have an empty {field} field"));
        }
    }
    match &event.reference {
        Some(Reference::EventRef(e)) if e.event_type == EventType::Unspecified as i32 && e.event_id != 0 => {
            Err("workflow event link ref cannot have an unspecified event type and a non-zero event ID".to_owned())
        }
        _ => Ok(()),
    }
}

/// Summary and details that people see beside a workflow or a command.
pub(crate) fn user_metadata(metadata: Option<&UserMetadata>, limits: &Limits) -> Result<(), String> {
    let Some(metadata) = metadata else { return Ok(()) };
    let parts = [
        (&metadata.summary, "summary", limits.summary_bytes_max),
        (&metadata.details, "details", limits.details_bytes_max),
    ];
    for (payload, part, limit) in parts {
        let bytes = payload.as_ref().map_or(0, |payload| payload.data.len());
        if bytes > limit {
            return Err(format!("user metadata {part} size {bytes} exceeds limit {limit}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;
    use bristlecone_proto::temporal::api::common::v1::Payload;

    #[test]
    fn durations_are_cut_and_never_negative() {
        let years = Duration { seconds: i64::MAX, nanos: 5 };
        assert_eq!(duration(Some(&years)), Ok(Some(Duration { seconds: DURATION_SECONDS_MAX, nanos: 0 })));
        assert_eq!(duration(Some(&Duration { seconds: 0, nanos: 7 })), Ok(Some(Duration { seconds: 0, nanos: 7 })));
        assert_eq!(duration(None), Ok(None));
        assert_eq!(duration(Some(&Duration { seconds: -1, nanos: 0 })), Err("negative duration"));
        assert_eq!(duration(Some(&Duration { seconds: 0, nanos: -1 })), Err("negative duration"));
        assert_eq!(
            duration(Some(&Duration { seconds: 1, nanos: -1 })),
            Err("duration has seconds and nanos with different signs")
        );
    }

    #[test]
    fn queues_get_a_kind_and_a_default_name() {
        let limits = Limits::default();
        let queue = |name: &str| TaskQueue { name: name.to_string(), ..TaskQueue::default() };
        let normal = task_queue(Some(&queue("")), "standard", &limits).expect("a default name is given");
        assert_eq!((normal.name.as_str(), normal.kind()), ("standard", TaskQueueKind::Normal));
        assert_eq!(task_queue(Some(&queue("")), "", &limits), Err("missing task queue name".to_string()));
        assert_eq!(task_queue(None, "standard", &limits), Err("taskQueue is not set".to_string()));
        assert!(task_queue(Some(&queue("/_sys/x/1")), "", &limits).is_err());
        assert!(task_queue(Some(&queue(&"q".repeat(1000))), "", &limits).is_ok());
        assert!(task_queue(Some(&queue(&"q".repeat(1001))), "", &limits).is_err());
    }

    #[test]
    fn links_name_what_they_point_to() {
        let limits = Limits::default();
        let event = link::WorkflowEvent {
            namespace: "n".to_string(),
            workflow_id: "w".to_string(),
            run_id: "r".to_string(),
            reference: None,
        };
        let good = Link { variant: Some(link::Variant::WorkflowEvent(event.clone())) };
        assert_eq!(links(&vec![good.clone(); 10], &limits), Ok(()));
        assert_eq!(
            links(&vec![good; 11], &limits),
            Err("cannot attach more than 10 links per request, got 11".to_string())
        );
        let nameless = link::WorkflowEvent { run_id: String::new(), ..event };
        let nameless = Link { variant: Some(link::Variant::WorkflowEvent(nameless)) };
        assert_eq!(
            links(&[nameless], &limits),
            Err("workflow event link must not have an empty run ID field".to_string())
        );
        assert_eq!(links(&[Link::default()], &limits), Err("unsupported link variant".to_string()));
    }

    #[test]
    fn metadata_and_priorities_have_limits() {
        let limits = Limits::default();
        let payload = |bytes: usize| Some(Payload { data: vec![0; bytes].into(), ..Payload::default() });
        let fits = UserMetadata { summary: payload(400), details: payload(20_000) };
        assert_eq!(user_metadata(Some(&fits), &limits), Ok(()));
        let long = UserMetadata { summary: payload(401), details: None };
        assert_eq!(
            user_metadata(Some(&long), &limits),
            Err("user metadata summary size 401 exceeds limit 400".to_string())
        );
        let keys: Vec<_> = [-1, 0, 9]
            .map(|priority_key| priority(Some(&Priority { priority_key, ..Priority::default() })))
            .into_iter()
            .collect();
        assert_eq!(keys, [Err("priority key can't be negative"), Ok(()), Ok(())]);
    }
}
