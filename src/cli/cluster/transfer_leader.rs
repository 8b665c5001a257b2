//! `bristlecone cluster transfer-leader`.

use bristlecone_proto::admin::TransferLeaderRequest;
use serde_json::json;

use super::super::Outcome;
use super::Output;
use super::client::{ASK_TIME, Target, find, refused, status};
use crate::cli::say::say;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The group, as `cluster status` numbers it.
    #[arg(long, value_name = "GROUP")]
    group: u64,
    /// Id or name of the node that is to lead it.
    #[arg(long, value_name = "NODE")]
    to: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut admin = args.target.connect(ASK_TIME).await?;
    let node_id = find(&status(&mut admin).await?, &args.to)?;
    admin.transfer_leader(TransferLeaderRequest { group_id: args.group, node_id }).await.map_err(refused)?;
    match args.target.output {
        Output::Json => say(format_args!("{:#}", json!({ "group_id": args.group, "leader": node_id }))),
        Output::Table => say(format_args!("node {node_id} leads group {}", args.group)),
    }
    Ok(Outcome::Done)
}
