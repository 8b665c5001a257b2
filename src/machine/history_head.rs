//! Where the history of a run ends now, for whoever is about to read it.

use alloc::vec;
use alloc::vec::Vec;

use bristlecone_proto::chain::{HistoryEnd, HistoryHead, reply::Kind};
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

use crate::chain::Run;
use crate::draft::Draft;
use crate::workflow_task::answer;
use crate::{Step, reply};

/// A reader that is to see the workflow task in a worker's hands has its start written first, so that
/// nobody ever sees an event that a change of leaders takes back.
pub(crate) fn history_head(mut draft: Draft<'_>, input: &HistoryHead) -> Step {
    let run_id = match draft.find(input.execution.as_ref()) {
        Ok(run_id) => run_id,
        Err(rejection) => return draft.reject(rejection),
    };
    let run = draft.run(&run_id);
    if input.with_virtual_events && run.soft_start.is_some() && run.speculative.is_none() {
        draft.begin_transition(&run_id);
        let end = end(draft.run(&run_id), true);
        return draft.finish(reply::of(Kind::HistoryEnd(end)));
    }
    let end = end(draft.run(&run_id), input.with_virtual_events);
    draft.unchanged(reply::of(Kind::HistoryEnd(end)))
}

fn end(run: &Run, with_virtual_events: bool) -> HistoryEnd {
    // Readers of a standalone activity wait for its state to change: no event tells of it.
    let changes = run.head.standalone.as_ref().map(|_| run.head.transitions);
    HistoryEnd {
        run_id: run.id.clone(),
        next_event_id: changes.unwrap_or(run.head.next_event_id),
        last_batch_id: run.head.last_batch_id,
        running: run.is_running(),
        virtual_events: if with_virtual_events { virtual_events(run) } else { Vec::new() },
    }
}

/// Events of a repeated attempt of the workflow task, or of a speculative one, which stand in no row.
fn virtual_events(run: &Run) -> Vec<HistoryEvent> {
    if let Some(task) = &run.speculative {
        let started = run.soft_start.as_ref().map(|soft| soft.started_event.clone());
        return [answer::scheduled_event(task)].into_iter().chain(started).collect();
    }
    let Some(task) = run.head.workflow_task.as_ref().filter(|task| task.attempt > 1) else { return Vec::new() };
    match &task.started_event {
        Some(started) => vec![answer::scheduled_event(task), started.clone()],
        // The ids of a task that waits are those it would have now.
        None if task.scheduled_event_id == run.head.next_event_id => vec![answer::scheduled_event(task)],
        None => Vec::new(),
    }
}
