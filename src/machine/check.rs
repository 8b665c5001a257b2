//! Invariants that hold between any two steps.
//!
//! # Contract
//! A violation is a bug, never a user's doing: the shell quarantines the chain. Cost is proportional to
//! what is pending, so production checks after suspicious steps only; tests check after every step.

use alloc::format;
use alloc::string::String;

use bristlecone_proto::record;

use crate::chain::{Chain, Due, DueKind, Run};
use crate::draft::weight;
use crate::stamp::nanos;
use crate::{activity, outbox, schedule};

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

pub fn check(chain: &Chain) -> Result<(), Violation> {
    let current = chain.record.as_ref().map_or("", |record| &record.current_run_id);
    for run in chain.runs.values() {
        check_run(run).map_err(|text| Violation(format!("run {}: {text}", run.id)))?;
        if run.is_running() && run.id != current {
            return Err(Violation(format!("run {} is open and not the current one", run.id)));
        }
    }
    let Some(record) = &chain.record else { return Ok(()) };
    if let Some((sequence, _)) = chain.sends.iter().last()
        && *sequence >= record.next_send
    {
        return Err(Violation(format!("outbox sequence {sequence} is not below {}", record.next_send)));
    }
    if let Some(schedule) = &chain.schedule {
        schedule::check(chain, schedule).map_err(Violation)?;
        return check_deadline(chain, record);
    }
    let Some(run) = chain.current() else { return Ok(()) };
    if record.current_status != run.head.status || record.request_ids != run.head.request_ids {
        return Err(Violation("the chain's record does not repeat its current run".into()));
    }
    if run.is_running() {
        outbox::check(chain, run).map_err(Violation)?;
    }
    check_deadline(chain, record)
}

fn check_deadline(chain: &Chain, record: &record::Chain) -> Result<(), Violation> {
    let earliest = crate::deadline::durable(chain);
    match (earliest, record.deadline_row) {
        (Some(due), row) if row == 0 || row > due => {
            Err(Violation(format!("deadline {due} is earlier than its row {row}")))
        }
        (None, row) if row != 0 => Err(Violation(format!("deadline row {row} of a chain that waits for nothing"))),
        _ => Ok(()),
    }
}

fn check_run(run: &Run) -> Result<(), String> {
    let head = &run.head;
    let ensure = |holds: bool, text: &str| if holds { Ok(()) } else { Err(String::from(text)) };
    ensure(head.next_event_id > 1, "there is no first event")?;
    ensure(head.last_batch_id < head.next_event_id, "the last batch begins behind the last event")?;
    ensure(head.buffered_count == count(run.buffered.len()), "buffered events are miscounted")?;
    ensure(head.buffered_bytes >= 0, "buffered bytes are below nothing")?;
    ensure(head.transitions > 0, "no transition made the run")?;
    ensure(head.state_bytes == weight(run), "the run weighs something else")?;
    check_indexes(run)?;
    if !run.is_running() {
        ensure(head.workflow_task.is_none() && run.soft_start.is_none(), "a closed run has a workflow task")?;
        ensure(head.close_time.is_some(), "a closed run has no close time")?;
        ensure(run.admitted.is_empty() && run.speculative.is_none(), "updates wait for a closed run")?;
        let pending = run.activities.len() + run.timers.len() + run.children.len() + run.buffered.len();
        return ensure(pending == 0, "something is pending in a closed run");
    }
    ensure(head.close_time.is_none(), "an open run has a close time")?;
    check_task(run)?;
    check_awake(run)
}

fn check_task(run: &Run) -> Result<(), String> {
    let ensure = |holds: bool, text: &str| if holds { Ok(()) } else { Err(String::from(text)) };
    ensure(run.buffered.is_empty() || run.has_started_task(), "events wait for no workflow task")?;
    let Some(task) = &run.head.workflow_task else {
        let task = run.speculative.is_some();
        ensure(task || run.soft_start.is_none(), "a soft start without a workflow task")?;
        ensure(task || run.admitted.is_empty() || run.is_paused(), "no workflow task carries the updates")?;
        return check_speculative(run);
    };
    ensure(run.speculative.is_none(), "a speculative workflow task beside another one")?;
    ensure(task.attempt >= 1, "a workflow task without attempt")?;
    ensure(task.scheduled_time.is_some() && task.queue.is_some(), "a workflow task that nobody can take")?;
    let virtual_ids = task.attempt > 1;
    ensure(virtual_ids || task.scheduled_event_id < run.head.next_event_id, "a scheduled event that is not there")?;
    ensure(!virtual_ids || run.head.sticky.is_none(), "a repeated attempt on a sticky queue")?;
    if task.started_event_id != 0 {
        ensure(run.soft_start.is_none(), "a workflow task is started softly and durably")?;
        let id = task.started_event.as_ref().map_or(0, |event| event.event_id);
        ensure(id == task.started_event_id, "the started event is not at hand")?;
        if virtual_ids {
            ensure(task.scheduled_event_id == run.head.next_event_id, "events came between virtual ones")?;
        }
    }
    if let Some(soft) = &run.soft_start {
        ensure(soft.transitions == run.head.transitions, "the run went on although it is started softly")?;
    }
    Ok(())
}

fn check_speculative(run: &Run) -> Result<(), String> {
    let ensure = |holds: bool, text: &str| if holds { Ok(()) } else { Err(String::from(text)) };
    if let Some(task) = &run.speculative {
        ensure(task.scheduled_event_id == run.head.next_event_id, "events came before a speculative task")?;
        ensure(task.attempt == 1 && task.started_event_id == 0, "a speculative task is durable")?;
    }
    if let Some(soft) = &run.soft_start {
        ensure(soft.transitions == run.head.transitions, "the run went on although it is started softly")?;
    }
    Ok(())
}

/// A run that waits for nothing will never go on by itself: then the next word is a worker's, a
/// client's or another workflow's. What waits for time must have a time.
fn check_awake(run: &Run) -> Result<(), String> {
    for (id, pending) in run.activities.iter() {
        let wakes = activity::is_started(pending) || pending.offered || pending.paused;
        if !wakes && activity::due(pending).is_none() {
            return Err(format!("nothing wakes activity {id}"));
        }
    }
    for (id, timer) in run.timers.iter() {
        if timer.due.is_none() {
            return Err(format!("nothing wakes timer {id}"));
        }
    }
    Ok(())
}

/// The derived collections say what their sources say.
fn check_indexes(run: &Run) -> Result<(), String> {
    let due_activities = run.activities.iter().filter_map(|(id, pending)| {
        activity::due(pending).map(|at| Due { at, kind: DueKind::Activity, event_id: *id })
    });
    let due_timers = run.timers.iter().filter_map(|(id, timer)| {
        timer.due.as_ref().map(|at| Due { at: nanos(at), kind: DueKind::Timer, event_id: *id })
    });
    let mut dues = 0;
    for due in due_activities.chain(due_timers) {
        dues += 1;
        if !run.due.contains(&due) {
            return Err(format!("{due:?} is not in the index"));
        }
    }
    if dues != run.due.len() {
        return Err(format!("{} due times for {dues} things", run.due.len()));
    }
    let named = run.activities.iter().all(|(id, pending)| run.activity_ids.get(&pending.activity_id) == Some(id));
    if !named || run.activity_ids.len() != run.activities.len() {
        return Err("activity ids and activities differ".into());
    }
    let named = run.timers.iter().all(|(id, timer)| run.timer_ids.get(&timer.timer_id) == Some(id));
    if !named || run.timer_ids.len() != run.timers.len() {
        return Err("timer ids and timers differ".into());
    }
    Ok(())
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
