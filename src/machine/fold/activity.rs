//! Activities: pending from their scheduled event to the event that closes them.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::history::v1::{
    ActivityTaskCancelRequestedEventAttributes, ActivityTaskScheduledEventAttributes,
    ActivityTaskStartedEventAttributes, HistoryEvent,
};

use crate::chain::Run;
use crate::payload;

pub fn scheduled(run: &mut Run, event: &HistoryEvent, a: &ActivityTaskScheduledEventAttributes, batch_id: i64) {
    let activity = record::Activity {
        scheduled_event_id: event.event_id,
        scheduled_batch_id: batch_id,
        activity_id: a.activity_id.clone(),
        activity_type: a.activity_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        task_queue: a.task_queue.as_ref().map(|q| q.name.clone()).unwrap_or_default(),
        schedule_to_close_timeout: a.schedule_to_close_timeout,
        schedule_to_start_timeout: a.schedule_to_start_timeout,
        start_to_close_timeout: a.start_to_close_timeout,
        heartbeat_timeout: a.heartbeat_timeout,
        retry_policy: a.retry_policy.clone(),
        attempt: 1,
        first_scheduled_time: event.event_time,
        scheduled_time: event.event_time,
        offered: true,
        priority: a.priority.clone(),
        ..record::Activity::default()
    };
    run.activity_ids.put(a.activity_id.clone(), event.event_id);
    run.activities.put(event.event_id, activity);
}

pub fn started(run: &mut Run, event: &HistoryEvent, a: &ActivityTaskStartedEventAttributes) {
    let Some(activity) = run.activities.get_mut(&a.scheduled_event_id) else { return };
    activity.started_time = event.event_time;
    activity.attempt = a.attempt;
    activity.request_id.clone_from(&a.request_id);
    activity.identity.clone_from(&a.identity);
    activity.offered = false;
}

pub fn cancel_requested(run: &mut Run, event: &HistoryEvent, a: &ActivityTaskCancelRequestedEventAttributes) {
    let Some(activity) = run.activities.get_mut(&a.scheduled_event_id) else { return };
    activity.cancel_requested = true;
    activity.cancel_requested_event_id = event.event_id;
}

pub fn closed(run: &mut Run, scheduled_event_id: i64) {
    if let Some(activity) = run.activities.remove(&scheduled_event_id) {
        // In the order of history the id may be in use again: its end waited in the buffer meanwhile.
        if run.activity_ids.get(&activity.activity_id) == Some(&scheduled_event_id) {
            run.activity_ids.remove(&activity.activity_id);
        }
        if activity.paused {
            note_pauses(run);
        }
    }
}

/// Whether the run is paused, and which types of activities are, shows in listings.
pub(crate) fn note_pauses(run: &mut Run) {
    const PAUSE_INFO: &str = "TemporalPauseInfo";
    let mut entries: Vec<String> = Vec::new();
    if let Some(pause) = &run.head.pause {
        entries.push(format!("Workflow:{}", run.started.workflow_id));
        if !pause.reason.is_empty() {
            entries.push(format!("Reason:{}", pause.reason));
        }
    }
    let paused = run.activities.iter().filter(|(_, activity)| activity.paused);
    let types: BTreeSet<String> =
        paused.map(|(_, activity)| format!("property:activityType={}", activity.activity_type)).collect();
    entries.extend(types);
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let noted = (!entries.is_empty()).then(|| payload::keyword_list(&entries));
    let known = run.fields.search_attributes.as_ref().and_then(|a| a.indexed_fields.get(PAUSE_INFO));
    if known == noted.as_ref() {
        return;
    }
    let attributes = Arc::make_mut(&mut run.fields).search_attributes.get_or_insert_default();
    match noted {
        Some(noted) => attributes.indexed_fields.insert(PAUSE_INFO.into(), noted),
        None => attributes.indexed_fields.remove(PAUSE_INFO),
    };
}

/// Tasks of these activities that were offered already are not started any more.
pub fn restamp(run: &mut Run, which: impl Fn(&record::Activity) -> bool) {
    let ids: Vec<i64> = run.activities.iter().filter(|(_, activity)| which(activity)).map(|(id, _)| *id).collect();
    for id in ids {
        if let Some(activity) = run.activities.get_mut(&id) {
            activity.stamp = activity.stamp.wrapping_add(1);
        }
    }
}
