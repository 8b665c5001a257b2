//! `bristlecone version`.

use serde_json::json;

use super::Outcome;
use super::cluster::Output;
use super::say::say;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let version = crate::node::VERSION;
    match args.output {
        Output::Table => say(format_args!("bristlecone {version}")),
        Output::Json => say(format_args!("{:#}", json!({ "name": "bristlecone", "version": version }))),
    }
    Ok(Outcome::Done)
}
