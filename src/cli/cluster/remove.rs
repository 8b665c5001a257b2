//! `bristlecone cluster remove`: a dead node goes for ever.

use bristlecone_proto::admin::RemoveNodeRequest;

use super::super::Outcome;
use super::client::{ASK_TIME, Target, find, print_change, refused, status};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Id or name of the node. Its id never comes back: its successor joins under a new one.
    node: String,
    /// Removes it although it still answers.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut admin = args.target.connect(ASK_TIME).await?;
    let node_id = find(&status(&mut admin).await?, &args.node)?;
    admin.remove_node(RemoveNodeRequest { node_id, force: args.force }).await.map_err(refused)?;
    Ok(print_change(args.target.output, node_id, "is removed", 0, ""))
}
