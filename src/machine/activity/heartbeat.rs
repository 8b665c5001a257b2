//! A worker tells that it is alive and how far it came.

use bristlecone_proto::chain::{HeartbeatActivity, reply::Kind as ReplyKind};
use bristlecone_proto::temporal::api::workflowservice::v1::RecordActivityTaskHeartbeatResponse;

use super::{answer, find_started};
use crate::draft::Draft;
use crate::stamp::timestamp;
use crate::validate::{self, failure};
use crate::{Step, reply};

/// Keeps the details for the next attempt and moves the heartbeat timeout. Details that are too large
/// fail the activity, and the worker is told to stop.
pub(crate) fn heartbeat_activity(mut draft: Draft<'_>, input: &HeartbeatActivity) -> Step {
    let found = match find_started(&draft, input.activity.as_ref(), &input.identity) {
        Ok(found) => found,
        Err(rejection) => return draft.reject(rejection),
    };
    draft.begin_transition(&found.run_id);
    if !validate::payloads_fit(input.details.as_ref(), draft.at().limits) {
        let failure = failure::server(failure::HEARTBEAT_TOO_LARGE, true);
        answer::end_failed(&mut draft, &found, Some(failure), &input.identity, None);
        let response = RecordActivityTaskHeartbeatResponse { cancel_requested: true, ..Default::default() };
        return draft.finish(reply::of(ReplyKind::Heartbeat(response)));
    }
    let response = RecordActivityTaskHeartbeatResponse {
        cancel_requested: found.activity.cancel_requested,
        activity_paused: found.activity.paused,
        activity_reset: found.activity.reset_requested,
    };
    let now = timestamp(draft.now());
    let run = draft.run_mut(&found.run_id);
    if let Some(standalone) = &mut run.head.standalone {
        standalone.heartbeats = standalone.heartbeats.saturating_add(1);
    }
    if let Some(activity) = run.activities.get_mut(&found.activity.scheduled_event_id) {
        activity.heartbeat_details.clone_from(&input.details);
        activity.last_heartbeat_time = Some(now);
    }
    draft.finish(reply::of(ReplyKind::Heartbeat(response)))
}
