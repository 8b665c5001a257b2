//! The workflow task that exists for updates alone, and in memory alone.
//!
//! # Contract
//! | state | by | next |
//! |---|---|---|
//! | – | an update is admitted and no workflow task is pending | scheduled (offered to workers, no rows) |
//! | scheduled | a poll | started softly, until its start-to-close timeout |
//! | scheduled, started | any transition of the run, its timeout | written, as if it had been durable always |
//! | started | its completion, when that only rejects updates | gone without a trace |
//! | started | any other answer | written, and answered like every workflow task |
//! | scheduled, started | the end of the epoch | gone, and so are the updates |
//!
//! Its events have the ids that come next, because whatever would take them writes the task first.

use alloc::boxed::Box;

use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::TaskQueueKind;

use super::Draft;
use super::task::{current_queue, start_to_close_timeout};
use crate::stamp::{duration, timestamp};
use crate::workflow_task::answer;

impl Draft<'_> {
    /// Makes sure that a workflow task carries the updates that wait.
    pub fn schedule_task_for_updates(&mut self, run_id: &str) {
        let run = self.run(run_id);
        if run.admitted.is_empty() || !run.is_running() || run.is_paused() || run.pending_task().is_some() {
            return;
        }
        if run.head.next_workflow_task_attempt > 1 || !run.buffered.is_empty() {
            self.begin_transition(run_id);
            self.schedule_workflow_task(run_id);
        } else {
            self.schedule_speculative_task(run_id);
        }
    }

    fn schedule_speculative_task(&mut self, run_id: &str) {
        const NANOS_PER_MS: i64 = 1_000_000;
        let now = timestamp(self.now());
        let limits = self.at().limits;
        let run = self.run(run_id);
        let queue = current_queue(run);
        let sticky = run.head.sticky.as_ref().filter(|_| queue.kind() == TaskQueueKind::Sticky);
        let wait = sticky.and_then(|sticky| sticky.schedule_to_start_timeout);
        let wait = wait.unwrap_or_else(|| duration(limits.speculative_wait_ms_max.saturating_mul(NANOS_PER_MS)));
        let task = record::WorkflowTask {
            scheduled_event_id: run.head.next_event_id,
            attempt: 1,
            scheduled_time: Some(now),
            original_scheduled_time: Some(now),
            start_to_close_timeout: Some(start_to_close_timeout(run, 1, limits)),
            queue: Some(queue),
            schedule_to_start_timeout: Some(wait),
            priority: run.head.priority.clone(),
            ..record::WorkflowTask::default()
        };
        self.soft_mut(run_id).speculative = Some(Box::new(task));
    }

    /// Writes the speculative task: from now on it is one like every other. The transition has begun.
    pub(super) fn write_speculative_task(&mut self, run_id: &str) {
        if self.run(run_id).speculative.is_none() {
            return;
        }
        if let Some(task) = self.soft_mut(run_id).speculative.take() {
            self.add_event(run_id, answer::scheduled_event(&task));
        }
    }

    /// Forgets the speculative task, with its start.
    pub fn drop_speculative_task(&mut self, run_id: &str) {
        let run = self.soft_mut(run_id);
        run.speculative = None;
        run.soft_start = None;
    }
}
