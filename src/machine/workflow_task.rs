//! The workflow task in a worker's hands: given out, taken back, completed, failed, timed out.
//!
//! # Contract
//! | state | by | next |
//! |---|---|---|
//! | scheduled | a poll, nothing else to write | soft start (in memory; no rows) |
//! | scheduled | a poll that moves the run to its normal queue | started |
//! | soft start | its age, any other transition of the run, a read that shows it | started |
//! | soft start | the poll is gone; the end of the epoch | scheduled |
//! | soft start, started | its completion | none, or the next one |
//! | soft start, started | its failure | scheduled, one attempt more (the first on the normal queue is free) |
//! | started | its timeout | scheduled, likewise |
//! | scheduled on a sticky queue | its timeout, or no worker listens there | scheduled on the normal queue |
//!
//! Workflow time *is* the time of the started event, and SDKs read more from it: the bytes that a worker
//! saw are the bytes that are written, by whichever leader. A token is accepted iff it names the durable
//! start, or none is durable and the run's transition count is still the token's. Attempts after the
//! first have virtual events, which are written when one of them completes.

pub(crate) mod answer;
pub(crate) mod complete;
mod fail;
pub(crate) mod start;
pub(crate) mod timeout;
pub(crate) mod token;
mod undo;

pub(crate) use complete::complete_workflow_task;
pub(crate) use fail::fail_workflow_task;
pub(crate) use start::start_workflow_task;
pub(crate) use undo::{harden, reset_sticky, sticky_unavailable, undo_workflow_task_start};
