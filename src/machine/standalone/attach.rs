//! A start that uses the open run leaves with it what it says: its request id, its links.

use alloc::format;
use alloc::string::String;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::workflowservice::v1::StartActivityExecutionRequest;

use super::{SCHEDULED_EVENT_ID, started};
use crate::chain::Run;
use crate::draft::Draft;
use crate::{Step, reply};

/// Request ids, and links, that are attached to one run.
const ATTACHED_MAX: usize = 100;

/// A request that is attached is answered with the same run when it is repeated, after the run's end too.
pub(super) fn attach(
    mut draft: Draft<'_>,
    request: &StartActivityExecutionRequest,
    request_id: String,
    run_id: String,
) -> Step {
    let options = request.on_conflict_options.unwrap_or_default();
    let run = draft.run(&run_id);
    let known = links(run);
    let mut new_links = request.links.clone();
    new_links.retain(|link| options.attach_links && !run.links.contains(link) && !known.contains(link));
    if !options.attach_request_id && new_links.is_empty() {
        return draft.unchanged(started(run_id, false));
    }
    if options.attach_request_id && run.head.request_ids.len() >= ATTACHED_MAX {
        return draft.reject(full("request IDs"));
    }
    if known.len() + new_links.len() > ATTACHED_MAX {
        return draft.reject(full("links"));
    }
    draft.begin_transition(&run_id);
    let head = &mut draft.run_mut(&run_id).head;
    if options.attach_request_id {
        let event_type = EventType::WorkflowExecutionOptionsUpdated.into();
        head.request_ids.insert(request_id, record::RequestIdInfo { event_type, event_id: SCHEDULED_EVENT_ID });
    }
    head.standalone.get_or_insert_default().attached_links.extend(new_links);
    draft.finish(started(run_id, false))
}

/// The links that were attached to the run.
pub(super) fn links(run: &Run) -> &[bristlecone_proto::temporal::api::common::v1::Link] {
    run.head.standalone.as_ref().map_or(&[], |known| &known.attached_links)
}

fn full(what: &str) -> Rejection {
    reply::failed_precondition(format!("cannot attach more than {ATTACHED_MAX} {what} to an activity"))
}
