//! What becomes of updates in a step, for those who wait; and the ends that they come to by others' doing.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bristlecone_proto::chain::Rejection;
use bristlecone_proto::temporal::api::update::v1::Outcome;

use super::{aborted_by_closing, failed, run_closed, unprocessed};
use crate::draft::Draft;
use crate::reply;

/// Something happened to an update.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateNews {
    pub run_id: String,
    pub update_id: String,
    pub news: News,
}

#[derive(Debug, Clone, PartialEq)]
pub enum News {
    Accepted,
    Completed(Box<Outcome>),
    /// It is gone, and nothing came of it.
    Aborted(Rejection),
    /// Its run ended before a worker saw to it, and another follows, which may be asked.
    Continuing,
}

impl Draft<'_> {
    pub(super) fn tell(&mut self, run_id: &str, update_id: &str, news: News) {
        self.news.push(UpdateNews { run_id: run_id.to_string(), update_id: update_id.to_string(), news });
    }

    /// The run has ended in this step: so have its updates.
    pub(crate) fn end_updates(&mut self, run_id: &str) {
        let run = self.run(run_id);
        if run.is_running() || !self.was_running(run_id) {
            return;
        }
        let continues = !run.head.successor_run_id.is_empty();
        let accepted = run.updates.iter().filter(|(_, u)| u.accepted_event_id != 0 && u.completed_event_id == 0);
        let accepted: Vec<String> = accepted.map(|(id, _)| id.clone()).collect();
        for id in accepted {
            self.tell(run_id, &id, News::Completed(failed(run_closed()).into()));
        }
        if self.run(run_id).admitted.is_empty() {
            return;
        }
        for update in core::mem::take(&mut self.soft_mut(run_id).admitted) {
            let news = if continues { News::Continuing } else { News::Aborted(aborted_by_closing()) };
            self.tell(run_id, &update.id, news);
        }
    }

    /// The workflow task that carried updates failed by the worker's answer.
    pub(crate) fn abort_sent_updates(&mut self, run_id: &str) {
        for id in self.take_sent_updates(run_id) {
            let rejection = reply::workflow_not_ready(
                "Unable to perform workflow execution update due to unexpected workflow task failure.",
            );
            self.tell(run_id, &id, News::Aborted(rejection));
        }
    }

    /// The worker completed the workflow task and said nothing of updates that it was sent.
    pub(crate) fn reject_unprocessed_updates(&mut self, run_id: &str) {
        for id in self.take_sent_updates(run_id) {
            self.tell(run_id, &id, News::Completed(failed(unprocessed()).into()));
        }
    }

    fn take_sent_updates(&mut self, run_id: &str) -> Vec<String> {
        if !self.run(run_id).admitted.iter().any(|update| update.sent) {
            return Vec::new();
        }
        let admitted = &mut self.soft_mut(run_id).admitted;
        let (sent, waiting): (Vec<_>, Vec<_>) = core::mem::take(admitted).into_iter().partition(|update| update.sent);
        *admitted = waiting;
        sent.into_iter().map(|update| update.id).collect()
    }
}
