//! `bristlecone cluster …`: shows and changes a cluster through the admin service of any of its nodes.
//!
//! ```text
//! client.rs   whom to ask, and how      view.rs   the answer, as people and programs read it
//! health.rs (what is wrong), status.rs, members.rs, join.rs, drain.rs (and undrain), leave.rs, remove.rs,
//! transfer_leader.rs
//! ```

pub(super) mod client;
mod drain;
mod health;
mod join;
mod leave;
mod members;
mod remove;
mod status;
mod transfer_leader;
mod view;

use clap::{Subcommand, ValueEnum};
use comfy_table::Table;

use super::Outcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows nodes, shards and leaders; exits with 2 when something is wrong.
    Status(status::Args),
    /// Lists the members, the removed ones too.
    Members(members::Args),
    /// Says what is wrong; exits with 2 when something is.
    Health(health::Args),
    /// Has a node that waits with an empty data directory join the cluster of a seed.
    Join(join::Args),
    /// Hands a node's leaderships over and keeps new ones away, before work on it.
    Drain(drain::Args),
    /// Takes a drained node back into service.
    Undrain(drain::UndrainArgs),
    /// Moves a live node's replicas elsewhere, then removes it for ever.
    Leave(leave::Args),
    /// Removes a dead node for ever; its replicas are replaced.
    Remove(remove::Args),
    /// Hands the leadership of a group to one of its replicas.
    TransferLeader(transfer_leader::Args),
}

pub(super) fn run(command: Command) -> anyhow::Result<Outcome> {
    super::serve::block_on(async {
        match command {
            Command::Status(args) => status::run(args).await,
            Command::Members(args) => members::run(args).await,
            Command::Health(args) => health::run(args).await,
            Command::Join(args) => join::run(args).await,
            Command::Drain(args) => drain::run(args).await,
            Command::Undrain(args) => drain::undrain(args).await,
            Command::Leave(args) => leave::run(args).await,
            Command::Remove(args) => remove::run(args).await,
            Command::TransferLeader(args) => transfer_leader::run(args).await,
        }
    })
}

/// A table without lines, as it can be read, cut and grepped.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
