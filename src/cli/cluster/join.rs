//! `bristlecone cluster join`: tells a node that waits with an empty data directory whose cluster to join.

use std::time::Duration;

use anyhow::bail;
use bristlecone_proto::admin::JoinNodeRequest;
use serde_json::json;
use tokio::time::Instant;

use super::super::Outcome;
use super::Output;
use super::client::{self, ASK_TIME, Target, refused};
use crate::cli::say::say;

const POLL_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Internal address of a member of the cluster.
    #[arg(value_name = "SEED")]
    seed: String,
    /// How long the node may take to become a member, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let until = Instant::now() + Duration::from_secs(args.timeout);
    let mut admin = args.target.connect(ASK_TIME).await?;
    admin.join_node(JoinNodeRequest { seed: args.seed.clone() }).await.map_err(refused)?;
    // The node closes this port, joins, and opens it again as a member.
    let node_id = loop {
        let failure = match answered_by(&args.target).await {
            Ok(node_id) => break node_id,
            Err(error) => error,
        };
        if Instant::now() >= until {
            bail!("the node did not become a member in time, see its log: {failure:#}");
        }
        tokio::time::sleep(POLL_PAUSE).await;
    };
    match args.target.output {
        Output::Json => say(format_args!("{:#}", json!({ "node_id": node_id }))),
        Output::Table => say(format_args!("joined as node {node_id}")),
    }
    Ok(Outcome::Done)
}

async fn answered_by(target: &Target) -> anyhow::Result<u64> {
    Ok(client::status(&mut target.connect(ASK_TIME).await?).await?.answered_by)
}
