//! What holds between any two operations, over all chains: whatever waits has something that will wake it.

use bristlecone_machine::stamp::{duration_nanos, nanos};
use bristlecone_machine::{Chain, Run, deadline};
use bristlecone_proto::chain::{Send, input};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::ParentClosePolicy;

use prost_types::{Duration, Timestamp};

use crate::shell::Shell;

pub fn check(shell: &Shell) {
    for workflow_id in shell.workflow_ids() {
        let Some(chain) = shell.whole(&workflow_id) else { continue };
        let Some(run) = chain.current().filter(|run| run.is_running()) else { continue };
        by_time(shell, &workflow_id, &chain, run);
        children(shell, &chain, run);
        first_task(shell, &workflow_id, run);
    }
}

/// What waits for time is not behind the chain's deadline, and the deadline has its row.
fn by_time(shell: &Shell, workflow_id: &str, chain: &Chain, run: &Run) {
    let deadlines = deadline(chain);
    let deadline = deadlines.durable.unwrap_or(i64::MAX);
    let row = shell.store(workflow_id).and_then(|store| store.deadlines.first().copied()).unwrap_or(i64::MAX);
    assert!(row <= deadline, "the deadline {deadline} has no row: {row}");
    for (id, timer) in run.timers.iter() {
        let due = timer.due.as_ref().map_or(0, nanos);
        assert!(deadline <= due, "timer {id} is due at {due}, the chain at {deadline}");
    }
    for (id, activity) in run.activities.iter() {
        let by = attention(activity);
        assert!(deadline <= by, "activity {id} needs attention at {by}, the chain wakes at {deadline}");
    }
    let Some(task) = run.pending_task() else { return };
    assert!(run.speculative.is_none() || deadlines.soft.is_some(), "a speculative task waits for ever");
    if let Some(soft) = &run.soft_start {
        assert!(deadlines.soft.is_some_and(|at| at <= soft.harden_by), "a soft start stays soft for ever");
    } else if let Some(started) = task.started_time.as_ref().filter(|_| task.started_event_id != 0) {
        let by = nanos(started) + duration_nanos(task.start_to_close_timeout.as_ref());
        assert!(deadline <= by, "the workflow task times out at {by}, the chain wakes at {deadline}");
    }
}

/// The earliest of the timeouts of an activity, or when its next attempt is offered. A paused one has none.
fn attention(activity: &record::Activity) -> i64 {
    if activity.paused {
        return i64::MAX;
    }
    let after = |from: Option<Timestamp>, timeout: Option<Duration>| {
        let timeout = duration_nanos(timeout.as_ref());
        from.filter(|_| timeout > 0).map(|from| nanos(&from) + timeout)
    };
    let whole = after(activity.first_scheduled_time, activity.schedule_to_close_timeout);
    let own = match (activity.started_time, activity.offered) {
        (Some(started), _) => {
            let beat = activity.last_heartbeat_time.filter(|beat| nanos(beat) > nanos(&started));
            let alive = after(beat.or(Some(started)), activity.heartbeat_timeout);
            alive.into_iter().chain(after(Some(started), activity.start_to_close_timeout)).min()
        }
        (None, true) => after(activity.scheduled_time, activity.schedule_to_start_timeout),
        (None, false) => activity.scheduled_time.as_ref().map(nanos),
    };
    whole.into_iter().chain(own).min().unwrap_or(i64::MAX)
}

/// A child that was started runs, or its end is on its way to the parent, or the parent asks after it.
fn children(shell: &Shell, parents: &Chain, parent: &Run) {
    for (id, child) in parent.children.iter().filter(|(_, child)| child.started_event_id != 0) {
        let Some(chain) = shell.whole(&child.workflow_id) else { panic!("child {id} is nowhere") };
        let runs = chain
            .current()
            .is_some_and(|run| run.is_running() && run.started.first_execution_run_id == child.first_run_id);
        let told = sends(&chain).any(|(_, kind)| {
            // After a reset the children still know the former run.
            let was_reset = parent.head.reset_start_time.is_some();
            let tells = |run_id: &str| was_reset || run_id == parent.id;
            matches!(kind, input::Kind::ChildClosed(m) if tells(&m.parent_run_id) && m.initiated_event_id == *id)
        });
        let asks = sends(parents)
            .any(|(_, kind)| matches!(kind, input::Kind::AwaitChild(m) if m.first_run_id == child.first_run_id));
        assert!(runs || told || asks, "nobody tells the parent of child {id}: {child:?}");
    }
}

/// A run without its first workflow task will get one: from its parent, or when its backoff is over.
fn first_task(shell: &Shell, workflow_id: &str, run: &Run) {
    if !run.head.awaits_parent || run.head.workflow_task.is_some() {
        return;
    }
    let parent = run.started.parent_workflow_execution.as_ref().expect("only a child waits for its parent");
    let Some(chain) = shell.chain(&parent.workflow_id) else { panic!("the parent is nowhere") };
    let told = sends(chain).any(|(send, kind)| {
        let here = send.target.as_ref().is_some_and(|target| target.workflow_id == workflow_id);
        let initiated = run.started.parent_initiated_event_id;
        // By whatever run: the parent may have begun anew since.
        here && match kind {
            input::Kind::StartChild(m) => m.initiated_event_id == initiated,
            input::Kind::ParentRecorded(m) => m.run_id == run.id,
            input::Kind::ParentClosed(m) => {
                m.policy() != ParentClosePolicy::Abandon && m.initiated_event_id == initiated
            }
            _ => false,
        }
    });
    assert!(told, "nobody lets {workflow_id} begin");
}

fn sends(chain: &Chain) -> impl Iterator<Item = (&Send, &input::Kind)> {
    chain.sends.iter().filter_map(|(_, send)| Some((send, send.input.as_ref()?.kind.as_ref()?)))
}

/// Everything is over: no run is open, and nothing waits for anybody.
pub fn nothing_is_left(shell: &Shell) {
    for workflow_id in shell.workflow_ids() {
        let (Some(chain), Some(store)) = (shell.whole(&workflow_id), shell.store(&workflow_id)) else { continue };
        let open = chain.current().filter(|run| run.is_running());
        assert!(open.is_none(), "{workflow_id} goes on: {open:?}");
        assert!(chain.sends.is_empty(), "messages of {workflow_id} are left: {:?}", chain.sends);
        assert!(chain.receipts.is_empty(), "receipts of {workflow_id} are left: {:?}", chain.receipts);
        assert!(store.tasks.is_empty(), "tasks of {workflow_id} are left: {:?}", store.tasks);
        assert!(store.deadlines.is_empty(), "deadlines of {workflow_id} are left: {:?}", store.deadlines);
    }
}
