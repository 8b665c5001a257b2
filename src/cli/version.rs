//! `bristlecone version`.

use serde_json::json;

use super::Outcome;
use super::cluster::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let version = crate::node::VERSION;
    match args.output {
        Output::Table => println!("bristlecone {version}"),
        Output::Json => println!("{:#}", json!({ "name": "bristlecone", "version": version })),
    }
    Ok(Outcome::Done)
}
