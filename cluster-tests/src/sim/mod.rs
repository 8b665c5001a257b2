//! The cluster simulation: whole nodes in one process, on one thread, under one seed.
//!
//! ```text
//! options.rs  what a seed draws          run.rs      the phases of a run        world.rs   machines, network, memory
//! node.rs     a machine and its node     wire.rs     clients' calls             clock.rs   wall clocks that are wrong
//! script.rs   deterministic workflows    worker.rs   workers that misbehave     clients.rs starts, signals, reads
//! nemesis.rs  faults                     ledger.rs   what was told to whom      trace.rs   what happened, hashed
//! invariants  the promises               campaign.rs many seeds on all cores    rng.rs, tally.rs
//! linear.rs   calls and answers of each workflow id, in time
//! updates.rs  updates and resets         fitting.rs  which promise finds which planted bug
//! schedules.rs  schedules, and what was asked of them
//! ```
//!
//! # Contract
//! Nodes are the real ones: openraft, the log, shards, brokers, deadlines, outbox, handlers. Simulated are time
//! (tokio's paused clock), wall clocks, network, disks, rows (a model that is held to RocksDB by one suite of tests),
//! clients and workers. A process carries out one run; with its randomness seeded (`seeded.c`) the trace of a seed is
//! the same, byte for byte, in every process of the same build.
//!
//! # Used by
//! The program `sim` (`scripts/sim`), and the tests that run it.

pub mod campaign;
mod clients;
mod clock;
pub mod fitting;
pub mod invariants;
mod ledger;
pub mod linear;
mod nemesis;
mod node;
pub mod options;
mod rng;
pub mod run;
mod schedules;
mod script;
mod tally;
mod trace;
mod updates;
mod wire;
mod worker;
mod world;

use parking_lot::Mutex;

/// Panics of any task since the process began.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes down every panic from now on: a task of a node that panics would end silently.
pub fn notice_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.lock().push(panic.to_string().replace('\n', " "));
    }));
}

fn panics() -> Vec<String> {
    std::mem::take(&mut *PANICS.lock())
}
