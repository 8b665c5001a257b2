//! `bristlecone cluster leave`: a live node goes for ever.

use std::time::Duration;

use bristlecone_proto::admin::LeaveNodeRequest;

use super::super::Outcome;
use super::client::{Target, find, print_change, refused, status};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Id or name of the node.
    node: String,
    /// How long its replicas may take to move, in seconds. When it runs out they go on moving: ask again.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut admin = args.target.connect(Duration::from_secs(args.timeout)).await?;
    let node_id = find(&status(&mut admin).await?, &args.node)?;
    let left = admin.leave_node(LeaveNodeRequest { node_id }).await.map_err(refused)?.into_inner().replicas_left;
    Ok(print_change(args.target.output, node_id, "has left the cluster", left, "replicas"))
}
