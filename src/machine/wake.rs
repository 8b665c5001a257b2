//! Wake: everything that is due of the chain happens, in one transition.
//!
//! # Contract
//! What is due happens in the order of its time (then: timers, activities, workflow task, first workflow
//! task, run timeout), each as if it had been handled alone; at the end one workflow task is scheduled
//! if anything happened that the workflow has to see. A wake that finds nothing due corrects the
//! deadline row.

use bristlecone_proto::chain::Wake;
use bristlecone_proto::temporal::api::enums::v1::{RetryState, TimeoutType, WorkflowTaskFailedCause};
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;
use bristlecone_proto::temporal::api::history::v1::{
    TimerFiredEventAttributes, WorkflowExecutionTimedOutEventAttributes,
};

use crate::deadline::{self, What};
use crate::draft::Draft;
use crate::validate::failure;
use crate::workflow_task::timeout;
use crate::{Step, activity, close, event, reply, schedule, successor};

pub(crate) fn wake(mut draft: Draft<'_>, _: &Wake) -> Step {
    let now = draft.now();
    if draft.chain().schedule.is_some() {
        return schedule::wake(draft);
    }
    let Some(run) = draft.chain().current().filter(|run| run.is_running()) else {
        draft.rewrite_deadline();
        return draft.finish(reply::done());
    };
    let run_id = run.id.clone();
    let soft_due = deadline::soft(run).is_some_and(|at| at <= now);
    if !soft_due && deadline::due(run, now).is_empty() {
        draft.rewrite_deadline();
        return draft.finish(reply::done());
    }
    let unclaimed = soft_due && run.speculative.is_some() && run.soft_start.is_none();
    draft.begin_transition(&run_id);
    // What was in memory only has been written, and may be due like everything else.
    let due = deadline::due(draft.run(&run_id), now);
    let mut wants_task = unclaimed && handle(&mut draft, &run_id, What::TaskScheduleToStart);
    for (_, what) in due {
        wants_task |= handle(&mut draft, &run_id, what);
        if !draft.run(&run_id).is_running() {
            return draft.finish(reply::done());
        }
        if !draft.run(&run_id).has_started_task() {
            draft.flush_buffer(&run_id);
        }
    }
    if wants_task {
        draft.schedule_workflow_task(&run_id);
    }
    draft.finish(reply::done())
}

/// Does what is due. Says whether the workflow has to see it.
fn handle(draft: &mut Draft<'_>, run_id: &str, what: What) -> bool {
    match what {
        What::Timer(started_event_id) => fire(draft, run_id, started_event_id),
        What::Activity(scheduled_event_id) => activity::wake(draft, run_id, scheduled_event_id),
        What::TaskScheduleToStart => {
            timeout::schedule_to_start(draft, run_id);
            true
        }
        What::TaskStartToClose => {
            timeout::start_to_close(draft, run_id);
            true
        }
        What::FirstTask => true,
        What::RunTimeout | What::ExecutionTimeout => {
            time_out(draft, run_id, what == What::ExecutionTimeout);
            false
        }
    }
}

fn fire(draft: &mut Draft<'_>, run_id: &str, started_event_id: i64) -> bool {
    let Some(timer) = draft.run(run_id).timers.get(&started_event_id) else { return false };
    let fired = TimerFiredEventAttributes { timer_id: timer.timer_id.clone(), started_event_id };
    draft.add(run_id, Attributes::TimerFiredEventAttributes(fired));
    true
}

/// The run, or the whole chain of runs, took too long. A run that times out alone is retried, or followed
/// by its next cron start.
fn time_out(draft: &mut Draft<'_>, run_id: &str, whole_execution: bool) {
    let now = draft.now();
    let timeout = failure::timeout("workflow timeout".into(), TimeoutType::StartToClose);
    let run = draft.run(run_id);
    let expired = whole_execution || deadline::execution_expiration(run).is_some_and(|at| at <= now);
    let (plan, retry_state) =
        if expired { (None, RetryState::Timeout) } else { successor::after_failure(run, &timeout, now) };
    let new_run_id = plan.as_ref().map(|_| draft.new_run_id()).unwrap_or_default();
    draft.fail_started_task(run_id, WorkflowTaskFailedCause::ForceCloseCommand);
    let attributes = WorkflowExecutionTimedOutEventAttributes {
        retry_state: retry_state.into(),
        new_execution_run_id: new_run_id.clone(),
    };
    let event = event::new(now, Attributes::WorkflowExecutionTimedOutEventAttributes(attributes));
    close::close(draft, run_id, event);
    if let Some(plan) = plan {
        let last_result = draft.run(run_id).started.last_completion_result.clone();
        successor::start_again(draft, run_id, new_run_id, &plan, last_result, Some(timeout));
    }
}
