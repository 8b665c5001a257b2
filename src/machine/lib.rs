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
// The API keeps deprecated fields alive, and so have we: old workers send them and old tools show them.
#![allow(deprecated)]

extern crate alloc;

mod activity;
mod command;
mod cron;
pub mod chain;
mod deadline;
mod draft;
mod event;
mod fold;
mod ids;
mod new_run;
pub mod reply;
mod retry;
pub mod row;
pub mod rows;
pub mod stamp;
mod tasks;
mod validate;
mod visibility;

use alloc::format;
use alloc::vec::Vec;

use bristlecone_proto::chain::input::Kind;

pub use bristlecone_proto::chain::{Input, Reply};
pub use chain::{Chain, Run, SoftStart};
pub use deadline::{Deadlines, deadline};
pub use row::Row;
pub use stamp::{Limits, Namespace, Stamp};

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
}

impl Step {
    fn unchanged(reply: Reply) -> Self {
        Self { next: None, rows: Vec::new(), reply }
    }
}

/// Decides what an input does to the chain. The runs named by [`load::runs_needed`] must be loaded.
pub fn step(chain: &Chain, input: &Input, at: &Stamp<'_>) -> Step {
    let draft = Draft::new(chain, at);
    let Some(kind) = &input.kind else {
        return draft.reject(reply::invalid_argument("Request is nil."));
    };
    match kind {
        other => draft.reject(reply::plain(reply::code::UNIMPLEMENTED, format!("{}", name(other)))),
    }
}

fn name(kind: &Kind) -> &'static str {
    match kind {
        _ => "this input is not implemented",
    }
}
