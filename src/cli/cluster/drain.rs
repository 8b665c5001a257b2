//! `bristlecone cluster drain` and `undrain`.

use std::time::Duration;

use bristlecone_proto::admin::{DrainNodeRequest, UndrainNodeRequest};

use super::super::Outcome;
use super::client::{ASK_TIME, Target, find, print_change, refused, status};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Id or name of the node.
    node: String,
    /// How long the leaderships may take to move, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct UndrainArgs {
    /// Id or name of the node.
    node: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut admin = args.target.connect(Duration::from_secs(args.timeout)).await?;
    let node_id = find(&status(&mut admin).await?, &args.node)?;
    let left = admin.drain_node(DrainNodeRequest { node_id }).await.map_err(refused)?.into_inner().leaderships_left;
    Ok(print_change(args.target.output, node_id, "is drained: it leads nothing", left, "leaderships"))
}

pub(super) async fn undrain(args: UndrainArgs) -> anyhow::Result<Outcome> {
    let mut admin = args.target.connect(ASK_TIME).await?;
    let node_id = find(&status(&mut admin).await?, &args.node)?;
    admin.undrain_node(UndrainNodeRequest { node_id }).await.map_err(refused)?;
    Ok(print_change(args.target.output, node_id, "is back in service", 0, ""))
}
