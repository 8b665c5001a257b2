//! What clients and workers were told: the oracle's memory.
//!
//! # Contract
//! Everything here was seen from outside, in answers of the API. The files of `invariants` compare it with later
//! answers, and with what is there at the end. What does not fit is a violation, which ends the run.

use std::collections::{BTreeMap, BTreeSet};

use bristlecone_proto::temporal::api::enums::v1::EventType;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;
use parking_lot::Mutex;
use prost::Message;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::schedules::Asked;

#[derive(Debug, Default)]
pub struct Ledger {
    pub known: Mutex<Known>,
    violations: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
pub struct Known {
    /// By workflow id and request id: the run that an acknowledged start was given.
    pub starts: BTreeMap<(String, String), String>,
    /// Workflow ids of acknowledged starts.
    pub workflows: BTreeSet<String>,
    /// Workflow ids that have one run for certain.
    pub single: BTreeSet<String>,
    pub runs: BTreeMap<String, Run>,
    /// The run of which events were shown last: workflow id and run id.
    pub latest: Option<(String, String)>,
    /// Signals sent, by workflow id and name, and whether they were acknowledged.
    pub signals: BTreeMap<(String, String), bool>,
    /// Updates whose outcomes were told, by workflow id and update id.
    pub updates: BTreeMap<(String, String), String>,
    /// Workflow ids of which a reset was asked, and the runs that resets began, by request id.
    pub reset: BTreeSet<String>,
    pub reset_runs: BTreeMap<(String, String), String>,
    /// By schedule id.
    pub schedules: BTreeMap<String, Asked>,
    /// Completions of activities that were accepted, by run and activity id: their attempts.
    pub activities: BTreeMap<(String, String), Vec<i32>>,
    /// Completions of workflow tasks that were accepted, by run and Started event.
    pub tasks: BTreeMap<(String, i64), Accepted>,
    /// When a completion of a workflow task left the worker for the first time.
    pub sent: BTreeMap<(String, i64), Instant>,
}

/// What was seen of a run.
#[derive(Debug, Default)]
pub struct Run {
    pub workflow_id: String,
    /// Hashes of the events that were shown.
    pub events: BTreeMap<i64, u64>,
    /// When an event was first shown.
    pub shown: BTreeMap<i64, Instant>,
    pub closed: bool,
}

#[derive(Debug, Default)]
pub struct Accepted {
    pub times: u64,
    /// Hash of the Started event that the worker had seen.
    pub started: u64,
}

impl Run {
    /// The last event that was shown.
    pub fn last(&self) -> i64 {
        self.events.last_key_value().map_or(0, |(id, _)| *id)
    }
}

impl Ledger {
    pub fn violated(&self, what: String) {
        let mut violations = self.violations.lock();
        if violations.len() < 20 {
            violations.push(what);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    pub fn has_failed(&self) -> bool {
        !self.violations.lock().is_empty()
    }
}

pub fn hash(event: &HistoryEvent) -> u64 {
    xxh3_64(&event.encode_to_vec())
}

/// The part of a history that cannot change any more: a workflow task that waits at its end may still be taken back.
pub fn settled(events: &[HistoryEvent]) -> &[HistoryEvent] {
    let open = |event: &&HistoryEvent| {
        matches!(event.event_type(), EventType::WorkflowTaskScheduled | EventType::WorkflowTaskStarted)
    };
    let tail = events.iter().rev().take_while(open).count();
    events.get(..events.len() - tail).unwrap_or_default()
}
