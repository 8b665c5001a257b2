//! `bristlecone debug`: what is of use to those who work on the program.

use serde_json::json;

use super::cluster::{Output, table};
use super::say::say;
use super::{Outcome, rows};
use crate::grpc::{RpcStatus, rpc_table};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the RPCs of Temporal's API and whether this server has them.
    Rpcs {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Counts the rows of a node that does not run, by table.
    Rows(rows::Rows),
}

pub(super) fn run(command: &Command) -> anyhow::Result<Outcome> {
    let output = match command {
        Command::Rows(wanted) => return rows::run(wanted),
        Command::Rpcs { output } => output,
    };
    let rpcs = rpc_table();
    match output {
        Output::Table => {
            let mut rows = table(&["RPC", "SERVED"]);
            for (name, status) in rpcs {
                let (served, missing) = words(status);
                rows.add_row([
                    name,
                    if missing.is_empty() { served.to_string() } else { format!("{served}: {missing}") },
                ]);
            }
            say(&rows);
        }
        Output::Json => {
            let row = |(name, status): &(String, RpcStatus)| {
                let (served, missing) = words(*status);
                json!({ "name": name, "served": served, "missing": missing })
            };
            say(format_args!("{:#}", json!(rpcs.iter().map(row).collect::<Vec<_>>())));
        }
    }
    Ok(Outcome::Done)
}

fn words(status: RpcStatus) -> (&'static str, &'static str) {
    match status {
        RpcStatus::Served => ("yes", ""),
        RpcStatus::Partly(missing) => ("partly", missing),
        RpcStatus::Off => ("off", ""),
        RpcStatus::Unimplemented => ("no", ""),
    }
}
