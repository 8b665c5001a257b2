//! Timers, signals, search attributes and memo.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Memo, Payload, SearchAttributes};
use bristlecone_proto::temporal::api::history::v1::{
    HistoryEvent, TimerStartedEventAttributes, UpsertWorkflowSearchAttributesEventAttributes,
    WorkflowExecutionSignaledEventAttributes, WorkflowPropertiesModifiedEventAttributes,
};

use crate::chain::Run;
use crate::stamp::{duration_nanos, nanos, timestamp};

pub fn timer_started(run: &mut Run, event: &HistoryEvent, a: &TimerStartedEventAttributes) {
    let started = event.event_time.as_ref().map_or(0, nanos);
    let due = started.saturating_add(duration_nanos(a.start_to_fire_timeout.as_ref()));
    let timer =
        record::Timer { timer_id: a.timer_id.clone(), started_event_id: event.event_id, due: Some(timestamp(due)) };
    run.timer_ids.put(a.timer_id.clone(), event.event_id);
    run.timers.put(event.event_id, timer);
}

pub fn timer_closed(run: &mut Run, started_event_id: i64) {
    if let Some(timer) = run.timers.remove(&started_event_id) {
        run.timer_ids.remove(&timer.timer_id);
    }
}

pub fn signaled(run: &mut Run, a: &WorkflowExecutionSignaledEventAttributes) {
    run.head.signal_count += 1;
    if !a.request_id.is_empty() {
        run.signal_requests.put(a.request_id.clone(), ());
    }
}

pub fn search_attributes(run: &mut Run, a: &UpsertWorkflowSearchAttributesEventAttributes) {
    let Some(upserted) = &a.search_attributes else { return };
    let fields = Arc::make_mut(&mut run.fields);
    let now = fields.search_attributes.get_or_insert_with(SearchAttributes::default);
    merge(&mut now.indexed_fields, &upserted.indexed_fields);
}

pub fn memo(run: &mut Run, a: &WorkflowPropertiesModifiedEventAttributes) {
    let Some(upserted) = &a.upserted_memo else { return };
    let fields = Arc::make_mut(&mut run.fields);
    let now = fields.memo.get_or_insert_with(Memo::default);
    merge(&mut now.fields, &upserted.fields);
}

/// Puts each payload under its name; one that says nothing removes the name.
pub(crate) fn merge(now: &mut BTreeMap<String, Payload>, upserted: &BTreeMap<String, Payload>) {
    for (name, payload) in upserted {
        if is_nil(payload) {
            now.remove(name);
        } else {
            now.insert(name.clone(), payload.clone());
        }
    }
}

/// Whether the payload stands for «no value»: the data of an encoded nothing or of an empty list.
pub(crate) fn is_nil(payload: &Payload) -> bool {
    payload.data.is_empty() || *payload.data == *b"[]"
}
