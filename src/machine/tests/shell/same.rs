//! Comparing chains: as stored, and as replayed from history.

use std::fmt::Debug;

use bristlecone_machine::rows::Rows;
use bristlecone_machine::{Chain, Limits, Run, rebuild};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

/// The chain from its rows equals the one in memory, save what is in memory only.
pub fn assert_stored(memory: &Chain, stored: &Chain) {
    assert_eq!(memory.record, stored.record, "the chain's record");
    assert_rows("sends", &memory.sends, &stored.sends);
    assert_rows("receipts", &memory.receipts, &stored.receipts);
    let rows = |chain: &Chain| {
        let rows = |s: &bristlecone_machine::chain::Schedule| (s.definition.clone(), s.head.clone(), s.result.clone());
        chain.schedule.as_ref().map(rows)
    };
    assert_eq!(rows(memory), rows(stored), "the schedule");
    let ids = |chain: &Chain| chain.runs.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(memory), ids(stored), "runs");
    for (run, other) in memory.runs.values().zip(stored.runs.values()) {
        assert_eq!(run.head, other.head, "head of {}", run.id);
        assert_eq!(run.fields, other.fields, "fields");
        assert_eq!(run.started, other.started, "first event");
        assert_eq!((run.start_time, &run.links), (other.start_time, &other.links), "first event");
        assert_eq!(run.user_metadata, other.user_metadata, "first event");
        assert_rows("activities", &run.activities, &other.activities);
        assert_rows("timers", &run.timers, &other.timers);
        assert_rows("children", &run.children, &other.children);
        assert_rows("external signals", &run.external_signals, &other.external_signals);
        assert_rows("external cancels", &run.external_cancels, &other.external_cancels);
        assert_rows("buffered", &run.buffered, &other.buffered);
        assert_rows("signal requests", &run.signal_requests, &other.signal_requests);
        assert_rows("updates", &run.updates, &other.updates);
        assert_rows("due", &run.due, &other.due);
        assert_rows("activity ids", &run.activity_ids, &other.activity_ids);
        assert_rows("timer ids", &run.timer_ids, &other.timer_ids);
    }
}

fn assert_rows<K: Ord + Clone + Debug, V: Clone + Debug + PartialEq>(what: &str, a: &Rows<K, V>, b: &Rows<K, V>) {
    let all = |rows: &Rows<K, V>| rows.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>();
    assert_eq!(all(a), all(b), "{what}");
    assert_eq!(a.len(), b.len(), "{what}: count");
}

/// Folding the history from its first event gives the run's state, save what history does not tell.
pub fn assert_replayed(run: &Run, batches: &[Vec<HistoryEvent>], limits: &Limits) {
    let ids: Vec<i64> = batches.iter().flatten().map(|event| event.event_id).collect();
    assert_eq!(ids, (1..run.head.next_event_id).collect::<Vec<_>>(), "event ids");
    let buffered: Vec<HistoryEvent> = run.buffered.iter().map(|(_, event)| event.clone()).collect();
    let replayed = rebuild(&run.id, batches, &buffered, limits).expect("history begins with a first event");
    assert_eq!(told_head(run), told_head(&replayed), "head of {}", run.id);
    assert_eq!(told_fields(run), told_fields(&replayed), "fields");
    // A reset offers anew what was scheduled long ago.
    let was_reset = run.head.reset_start_time.is_some();
    let told = |activity: &record::Activity| {
        let mut told = told_activity(activity);
        told.first_scheduled_time = told.first_scheduled_time.filter(|_| !was_reset);
        told
    };
    let activities = |run: &Run| run.activities.iter().map(|(_, activity)| told(activity)).collect::<Vec<_>>();
    assert_eq!(activities(run), activities(&replayed), "activities");
    assert_rows("timers", &run.timers, &replayed.timers);
    assert_rows("children", &run.children, &replayed.children);
    assert_rows("external signals", &run.external_signals, &replayed.external_signals);
    assert_rows("external cancels", &run.external_cancels, &replayed.external_cancels);
    // An update that was admitted by a reset and rejected since is told of by its admission only.
    let accepted = |run: &Run| {
        let accepted = run.updates.iter().filter(|(_, update)| update.accepted_event_id != 0);
        accepted.map(|(id, update)| (id.clone(), *update)).collect::<Vec<_>>()
    };
    assert_eq!(accepted(run), accepted(&replayed), "updates");
}

/// What history tells of a run's scalars.
fn told_head(run: &Run) -> record::Head {
    let mut head = record::Head {
        transitions: 0,
        sticky: None,
        buffered_count: 0,
        buffered_bytes: 0,
        next_arrival: 0,
        cancel_request_id: String::new(),
        workflow_task_problems: 0,
        last_problem: String::new(),
        workflow_task_stamp: 0,
        next_workflow_task_attempt: 0,
        close_attempted: false,
        awaits_parent: false,
        state_bytes: 0,
        reset_run_id: String::new(),
        reset_start_time: None,
        last_reset_time: None,
        former_children: Vec::new(),
        scheduled_by: None,
        ..(*run.head).clone()
    };
    head.request_ids.retain(|_, info| info.event_type == EventType::WorkflowExecutionOptionsUpdated as i32);
    // The events of a repeated attempt are written when it completes.
    head.workflow_task = head.workflow_task.filter(|task| task.attempt == 1).map(|task| record::WorkflowTask {
        original_scheduled_time: None,
        queue: None,
        schedule_to_start_timeout: None,
        ..task
    });
    head
}

fn told_fields(run: &Run) -> record::Fields {
    let mut fields = (*run.fields).clone();
    if let Some(attributes) = &mut fields.search_attributes {
        attributes.indexed_fields.remove("TemporalReportedProblems");
        attributes.indexed_fields.remove("TemporalPauseInfo");
    }
    fields.search_attributes = fields.search_attributes.filter(|attributes| !attributes.indexed_fields.is_empty());
    fields
}

fn told_activity(activity: &record::Activity) -> record::Activity {
    let mut activity = activity.clone();
    // What an operator changed stands in no event.
    if let Some(original) = activity.original_options.take() {
        activity.task_queue = original.task_queue.map(|queue| queue.name).unwrap_or_default();
        activity.schedule_to_close_timeout = original.schedule_to_close_timeout;
        activity.schedule_to_start_timeout = original.schedule_to_start_timeout;
        activity.start_to_close_timeout = original.start_to_close_timeout;
        activity.heartbeat_timeout = original.heartbeat_timeout;
        activity.retry_policy = original.retry_policy;
        activity.priority = original.priority;
    }
    record::Activity {
        scheduled_event_id: activity.scheduled_event_id,
        scheduled_batch_id: activity.scheduled_batch_id,
        activity_id: activity.activity_id,
        activity_type: activity.activity_type,
        task_queue: activity.task_queue,
        schedule_to_close_timeout: activity.schedule_to_close_timeout,
        schedule_to_start_timeout: activity.schedule_to_start_timeout,
        start_to_close_timeout: activity.start_to_close_timeout,
        heartbeat_timeout: activity.heartbeat_timeout,
        retry_policy: activity.retry_policy,
        first_scheduled_time: activity.first_scheduled_time,
        cancel_requested: activity.cancel_requested,
        cancel_requested_event_id: activity.cancel_requested_event_id,
        priority: activity.priority,
        ..record::Activity::default()
    }
}
