//! What a chain waits for: the earliest of all its timers and timeouts.
//!
//! # Contract
//! [`deadline`] never names a time later than something that is due; an input `Wake` at or after it
//! handles everything due in one transition (`wake.rs`).

use alloc::vec::Vec;

use crate::chain::{Chain, DueKind, Run};
use crate::stamp::{UnixNanos, duration_nanos, nanos};
use crate::successor;

/// The one timer that the shell keeps per chain, in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// Stands in the chain's deadline row too, or earlier.
    pub durable: Option<UnixNanos>,
    /// In memory only: when a soft start has to be hardened, or a speculative task has to be written.
    pub soft: Option<UnixNanos>,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Timer(i64),
    Activity(i64),
    TaskScheduleToStart,
    TaskStartToClose,
    FirstTask,
    RunTimeout,
    ExecutionTimeout,
}

pub fn deadline(chain: &Chain) -> Deadlines {
    let soft = chain.current().and_then(soft);
    Deadlines { durable: durable(chain), soft }
}

/// When a soft start has to be written, or a speculative task has waited for too long.
pub(crate) fn soft(run: &Run) -> Option<UnixNanos> {
    match (&run.soft_start, &run.speculative) {
        (Some(soft), _) => Some(soft.harden_by),
        (None, Some(task)) => {
            let wait = duration_nanos(task.schedule_to_start_timeout.as_ref());
            task.scheduled_time.as_ref().map(|at| nanos(at).saturating_add(wait))
        }
        (None, None) => None,
    }
}

pub(crate) fn durable(chain: &Chain) -> Option<UnixNanos> {
    if let Some(schedule) = &chain.schedule {
        return schedule.head.wake.as_ref().map(nanos);
    }
    let run = chain.current().filter(|run| run.is_running())?;
    let rows = run.due.iter().next().map(|(due, ())| due.at);
    let scalars = scalars(run).into_iter().flatten().map(|(at, _)| at).min();
    rows.into_iter().chain(scalars).min()
}

/// Everything that is due by now, the oldest first.
pub(crate) fn due(run: &Run, now: UnixNanos) -> Vec<(UnixNanos, What)> {
    let rows = run.due.iter().map(|(due, ())| {
        let what = match due.kind {
            DueKind::Timer => What::Timer(due.event_id),
            DueKind::Activity => What::Activity(due.event_id),
        };
        (due.at, what)
    });
    let mut due: Vec<_> = rows.take_while(|(at, _)| *at <= now).collect();
    due.extend(scalars(run).into_iter().flatten().filter(|(at, _)| *at <= now));
    due.sort_unstable();
    due
}

/// When the run times out, if it ever does: its backoff and run timeout after its start, or when the
/// whole execution expires.
pub(crate) fn run_expiration(run: &Run) -> Option<UnixNanos> {
    let timeout = duration_nanos(run.started.workflow_run_timeout.as_ref());
    if timeout == 0 {
        return None;
    }
    let backoff = successor::first_backoff(run);
    let at = run.start_time.saturating_add(backoff).saturating_add(timeout);
    Some(execution_expiration(run).map_or(at, |expiration| at.min(expiration)))
}

/// When the whole chain of runs times out, if it ever does.
pub(crate) fn execution_expiration(run: &Run) -> Option<UnixNanos> {
    if run.head.reset_start_time.is_some() {
        let timeout = duration_nanos(run.started.workflow_execution_timeout.as_ref());
        return (timeout > 0).then(|| run.start_time.saturating_add(timeout));
    }
    run.started.workflow_execution_expiration_time.as_ref().map(nanos).filter(|at| *at > 0)
}

fn scalars(run: &Run) -> [Option<(UnixNanos, What)>; 4] {
    let execution = execution_expiration(run).map(|at| (at, What::ExecutionTimeout));
    let whole = run_expiration(run).map(|at| (at, What::RunTimeout));
    // A child whose start its parent has not recorded yet waits for that first, and a paused run for more.
    let held = run.head.awaits_parent || run.is_paused();
    let first = run.head.first_task_backoff_until.as_ref().filter(|_| !held);
    let first = first.map(|at| (nanos(at), What::FirstTask));
    [execution, whole, first, task(run)]
}

/// A workflow task times out while it waits in a sticky queue, or in a worker's hands.
fn task(run: &Run) -> Option<(UnixNanos, What)> {
    let task = run.head.workflow_task.as_ref()?;
    if task.started_event_id == 0 {
        let timeout = duration_nanos(Some(task.schedule_to_start_timeout.as_ref()?));
        let scheduled = task.scheduled_time.as_ref().map(nanos)?;
        return Some((scheduled.saturating_add(timeout), What::TaskScheduleToStart));
    }
    let timeout = duration_nanos(task.start_to_close_timeout.as_ref());
    let started = task.started_time.as_ref().map(nanos)?;
    Some((started.saturating_add(timeout), What::TaskStartToClose))
}
