//! `bristlecone cluster members`: who belongs to the cluster, and who did.

use serde_json::json;

use super::super::Outcome;
use super::client::{self, ASK_TIME, Target};
use super::view::{ClusterView, list};
use super::{Output, table};
use crate::cli::say::say;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    let status = client::status(&mut args.target.connect(ASK_TIME).await?).await?;
    let localities: Vec<Vec<String>> = status
        .members
        .iter()
        .map(|member| member.locality.iter().map(|(key, value)| format!("{key}={value}")).collect())
        .collect();
    let view = ClusterView::new(status);
    if args.target.output == Output::Json {
        say(format_args!("{:#}", json!(view.nodes)));
        return Ok(Outcome::Done);
    }
    let mut rows = table(&["NODE", "NAME", "STATE", "HEALTH", "API", "INTERNAL", "VERSION", "LOCALITY"]);
    for (node, locality) in view.nodes.iter().zip(&localities) {
        rows.add_row([
            node.id.to_string(),
            node.name.clone(),
            node.state.clone(),
            node.health.clone(),
            node.api_address.clone(),
            node.internal_address.clone(),
            node.version.clone(),
            list(locality),
        ]);
    }
    say(&rows);
    Ok(Outcome::Done)
}
