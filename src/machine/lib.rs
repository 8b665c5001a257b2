//! What is decided: the workflow state machine, pure.
//!
//! # Contract
//! ```text
//! step(&Chain, &Input, &Stamp) -> Step     decides; never fails, never blocks, never looks at a clock
//! deadline(&Chain) -> Deadlines            the one timer that the shell keeps per chain
//! check(&Chain) -> Result<(), Violation>   invariants that hold between any two steps
//! ```
//! A *chain* is everything that one workflow id owns: all its runs, the outbox rows that it has sent
//! and the receipts of those that it has received. An [`Input`] touches one chain. Whatever must
//! reach another chain is an outbox row ([`Row::Send`]) written in the same step.
//!
//! A step works on a copy of the chain (cheap: collections are shared until they change) and returns
//! the copy as [`Step::next`] together with the [`Row`]s in which it differs; dropping the step is the
//! rollback. A user's mistake is a reply ([`Reply`] `rejected`), never an error: the core cannot fail.
//!
//! # Depends on
//! The generated messages only. `#![no_std]`: no clock, file, thread, randomness or hash order.
//!
//! # Used by
//! The shard actor (`src/shard`), the simulation, and the scripts in `src/machine/testdata`.

#![no_std]
#![forbid(unsafe_code)]
#![allow(
    deprecated,
    reason = "the API keeps deprecated fields alive, and so have we: old workers send them and old tools show them"
)]

extern crate alloc;

mod activity;
mod cancel;
pub mod chain;
mod check;
mod child;
mod close;
mod command;
mod cron;
mod deadline;
mod delete;
mod describe;
mod draft;
mod event;
mod external;
mod fold;
mod history_head;
mod ids;
pub mod load;
mod new_run;
mod options;
mod outbox;
mod pause;
mod payload;
mod query;
mod rebuild;
pub mod reply;
mod reset;
mod retry;
pub mod row;
pub mod rows;
pub mod rules;
pub mod schedule;
mod signal;
mod signal_with_start;
pub mod stamp;
pub mod standalone;
mod start;
mod successor;
mod tasks;
mod terminate;
pub mod update;
pub mod validate;
mod visibility;
mod wake;
mod workflow_task;

use alloc::format;
use alloc::vec::Vec;

use bristlecone_proto::chain::input::Kind;
use bristlecone_proto::record;

pub use bristlecone_proto::chain::{Input, Reply};
pub use chain::{Chain, Run, SoftStart};
pub use check::{Violation, check};
pub use deadline::{Deadlines, deadline};
pub use outbox::is_for_later;
pub use rebuild::rebuild;
pub use row::Row;
pub use schedule::listed as listing_of_schedule;
pub use stamp::{Limits, Namespace, Stamp};
pub use update::{News, UpdateNews};
pub use visibility::of as listing_of_run;

use draft::Draft;

/// What a decision comes to.
#[derive(Debug, Clone)]
pub struct Step {
    /// The chain from now on ([`Chain::settle`] it); `None`: nothing changed at all.
    pub next: Option<Chain>,
    /// To be written as one atomic batch. Empty when only what is in memory changed.
    pub rows: Vec<Row>,
    /// To be sent when the rows are applied.
    pub reply: Reply,
    /// Tasks that are offered to workers, or no longer, without rows; to be noted before the rows.
    pub offers: Vec<(row::TaskKey, Option<record::Task>)>,
    /// What became of updates, for those who wait: the last word of each counts.
    pub news: Vec<UpdateNews>,
}

impl Step {
    fn unchanged(reply: Reply) -> Self {
        Self { next: None, rows: Vec::new(), reply, offers: Vec::new(), news: Vec::new() }
    }
}

/// Decides what an input does to the chain. The runs named by [`load::runs_needed`] must be loaded.
pub fn step(chain: &Chain, input: &Input, at: &Stamp<'_>) -> Step {
    let Some(kind) = &input.kind else {
        return Step::unchanged(reply::rejected(reply::invalid_argument("Request is nil.")));
    };
    let quarantined = chain.record.as_ref().map_or("", |record| &record.quarantined);
    if !quarantined.is_empty() && !matches!(kind, Kind::Release(_) | Kind::Raze(_)) {
        let message = format!("the workflow is quarantined: {quarantined}");
        return Step::unchanged(reply::rejected(reply::failed_precondition(message)));
    }
    let Some(origin) = &input.origin else { return decide(Draft::new(chain, at), kind) };
    match outbox::answered_before(chain, origin) {
        Some(answer) => Step::unchanged(answer),
        None => outbox::with_receipt(chain, origin, decide(Draft::new(chain, at), kind)),
    }
}

fn decide(draft: Draft<'_>, kind: &Kind) -> Step {
    if !standalone::fits(draft.id(), kind) {
        let rejection = reply::workflow_not_found(&draft.id().workflow_id, "");
        return draft.reject(rejection);
    }
    match kind {
        Kind::Start(input) => start::start(draft, input),
        Kind::SignalWithStart(input) => signal_with_start::signal_with_start(draft, input),
        Kind::Signal(input) => signal::signal(draft, input),
        Kind::RequestCancel(input) => cancel::request_cancel(draft, input),
        Kind::Terminate(input) => terminate::terminate(draft, input),
        Kind::Delete(input) => delete::delete(draft, input),
        Kind::Describe(input) => describe::describe(draft, input),
        Kind::ResetSticky(input) => workflow_task::reset_sticky(draft, input),
        Kind::PauseActivity(input) => activity::pause_activity(draft, input),
        Kind::UnpauseActivity(input) => activity::unpause_activity(draft, input),
        Kind::ResetActivity(input) => activity::reset_activity(draft, input),
        Kind::UpdateActivityOptions(input) => activity::update_activity_options(draft, input),
        Kind::HistoryHead(input) => history_head::history_head(draft, input),
        Kind::Query(input) => query::query(draft, input),
        Kind::Update(input) => update::update(draft, input),
        Kind::PollUpdate(input) => update::poll(draft, input),
        Kind::UpdateWithStart(input) => update::update_with_start(draft, input),
        Kind::Reset(input) => reset::reset(draft, input),

        Kind::CreateSchedule(input) => schedule::create(draft, input),
        Kind::DescribeSchedule(_) => schedule::describe(draft),
        Kind::UpdateSchedule(input) => schedule::update(draft, input),
        Kind::PatchSchedule(input) => schedule::patch(draft, input),
        Kind::ScheduleMatchingTimes(input) => schedule::matching_times(draft, input),
        Kind::DeleteSchedule(_) => schedule::delete(draft),
        Kind::ScheduledStart(input) => schedule::start(draft, input),
        Kind::ScheduledWatch(input) => schedule::watch(draft, input),
        Kind::ScheduledClosed(input) => schedule::closed(draft, input),

        Kind::CompleteWorkflowTask(input) => workflow_task::complete_workflow_task(draft, input),
        Kind::FailWorkflowTask(input) => workflow_task::fail_workflow_task(draft, input),
        Kind::CompleteActivity(input) => activity::complete_activity(draft, input),
        Kind::FailActivity(input) => activity::fail_activity(draft, input),
        Kind::CancelActivity(input) => activity::cancel_activity(draft, input),
        Kind::HeartbeatActivity(input) => activity::heartbeat_activity(draft, input),

        Kind::StartWorkflowTask(input) => workflow_task::start_workflow_task(draft, input),
        Kind::StartActivity(input) => activity::start_activity(draft, input),
        Kind::UndoWorkflowTaskStart(input) => workflow_task::undo_workflow_task_start(draft, input),
        Kind::UndoActivityStart(input) => activity::undo_activity_start(draft, input),
        Kind::StickyUnavailable(input) => workflow_task::sticky_unavailable(draft, input),

        Kind::StartChild(input) => child::start_child(draft, input),
        Kind::ParentRecorded(input) => child::parent_recorded(draft, input),
        Kind::ChildClosed(input) => child::child_closed(draft, input),
        Kind::ParentClosed(input) => child::parent_closed(draft, input),
        Kind::AwaitChild(input) => child::await_child(draft, input),
        Kind::SignalExternal(input) => external::signal_external(draft, input),
        Kind::CancelExternal(input) => external::cancel_external(draft, input),
        Kind::Answer(input) => outbox::answer(draft, input),
        Kind::Forget(input) => outbox::forget(draft, input),

        Kind::Wake(input) => wake::wake(draft, input),
        Kind::Harden(input) => workflow_task::harden(draft, input),
        Kind::Purge(input) => delete::purge(draft, input),
        Kind::Release(_) => release(draft),

        Kind::Raze(_) => delete::raze(draft),
        Kind::PauseWorkflow(input) => pause::pause(draft, input),
        Kind::UnpauseWorkflow(input) => pause::unpause(draft, input),
        Kind::UpdateWorkflowOptions(input) => options::update_workflow_options(draft, input),
        Kind::StartStandalone(input) => standalone::start(draft, input),
        Kind::DescribeStandalone(input) => standalone::describe(draft, input),
        Kind::CancelStandalone(input) => standalone::request_cancel(draft, input),
        Kind::TerminateStandalone(input) => standalone::terminate(draft, input),
        Kind::DeleteStandalone(input) => standalone::delete(draft, input),
    }
}

/// An operator says that a quarantined chain may go on.
fn release(mut draft: Draft<'_>) -> Step {
    if draft.record().is_none_or(|record| record.quarantined.is_empty()) {
        return draft.unchanged(reply::done());
    }
    draft.record_mut().quarantined.clear();
    draft.finish(reply::done())
}
