//! The events that end a run: nothing is pending any more.

use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::history::v1::{
    HistoryEvent, WorkflowExecutionCompletedEventAttributes, WorkflowExecutionContinuedAsNewEventAttributes,
    WorkflowExecutionFailedEventAttributes, WorkflowExecutionTimedOutEventAttributes,
};

use crate::chain::Run;
use crate::rows::Rows;

pub fn completed(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionCompletedEventAttributes) {
    close(run, event, Status::Completed, &a.new_execution_run_id);
}

pub fn failed(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionFailedEventAttributes) {
    close(run, event, Status::Failed, &a.new_execution_run_id);
}

pub fn timed_out(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionTimedOutEventAttributes) {
    close(run, event, Status::TimedOut, &a.new_execution_run_id);
}

pub fn terminated(run: &mut Run, event: &HistoryEvent) {
    close(run, event, Status::Terminated, "");
}

pub fn canceled(run: &mut Run, event: &HistoryEvent) {
    close(run, event, Status::Canceled, "");
}

pub fn continued_as_new(run: &mut Run, event: &HistoryEvent, a: &WorkflowExecutionContinuedAsNewEventAttributes) {
    close(run, event, Status::ContinuedAsNew, &a.new_execution_run_id);
}

fn close(run: &mut Run, event: &HistoryEvent, status: Status, successor_run_id: &str) {
    run.head.status = status.into();
    run.head.close_time = event.event_time;
    run.head.successor_run_id = successor_run_id.into();
    run.head.workflow_task = None;
    run.head.sticky = None;
    run.head.first_task_backoff_until = None;
    run.soft_start = None;
    run.speculative = None;
    clear(&mut run.activities);
    clear(&mut run.timers);
    clear(&mut run.children);
    clear(&mut run.external_signals);
    clear(&mut run.external_cancels);
    clear(&mut run.buffered);
    clear(&mut run.activity_ids);
    clear(&mut run.timer_ids);
    run.head.buffered_count = 0;
    run.head.buffered_bytes = 0;
}

fn clear<K: Ord + Clone, V: Clone>(rows: &mut Rows<K, V>) {
    let keys: alloc::vec::Vec<K> = rows.iter().map(|(key, _)| key.clone()).collect();
    for key in keys {
        rows.remove(&key);
    }
}
