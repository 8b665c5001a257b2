//! The command line: one file per command.
//!
//! ```text
//! start.rs      a node of a cluster        settings.rs   its flags, environment and file, made into a NodeConfig
//! start_dev.rs  a node for development     unjoined.rs   a node that waits for `cluster join`
//! serve.rs      runs a node to its end     logging.rs    logs, and what a panic says
//! cluster/      the operator's commands    bench.rs      a load on any server
//! visibility.rs  are listings right?        say.rs        what they print
//! debug.rs, rows.rs, version.rs, completion.rs
//! ```
//!
//! # Contract
//! Exit codes are [`Outcome`]; a command that could not do what it was told says why in one line on
//! standard error.
//!
//! # Depends on
//! `crate::node` (to run one); the admin service's client (to operate one).
//!
//! # Used by
//! `src/main.rs`.

mod bench;
mod cluster;
mod completion;
mod debug;
mod logging;
mod rows;
mod say;
mod serve;
mod settings;
mod start;
mod start_dev;
mod unjoined;
mod version;
mod visibility;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes: 0 done, or healthy; 1 not done; 2 done in part, or the cluster is not healthy; \
3 a running node could not go on.";

/// What became of a command that ran; an error is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// 0
    Done,
    /// 2: the cluster is not healthy, or what was asked for is done in part.
    Unhealthy,
    /// 3: a running node could not go on.
    NodeFailed,
}

/// A durable-workflow server that speaks Temporal's gRPC API and needs no database.
#[derive(Debug, Parser)]
#[command(name = "bristlecone", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node of a cluster.
    Start(Box<start::Args>),
    /// Runs one node for development: in memory, nothing to set up.
    StartDev(start_dev::Args),
    /// `start-dev` as SDK test environments spell it.
    #[command(subcommand)]
    Server(Server),
    /// Shows and changes a cluster.
    #[command(subcommand, after_help = EXIT_CODES)]
    Cluster(cluster::Command),
    /// Looks whether listings show what there is, and makes them so.
    #[command(subcommand, after_help = EXIT_CODES)]
    Visibility(visibility::Command),
    /// Puts a load on any server of the API and measures it; exits with 2 when a workflow came out wrong.
    Bench(bench::Args),
    /// Looks into the program itself.
    #[command(subcommand)]
    Debug(debug::Command),
    /// Prints the script that completes commands in a shell.
    Completion(completion::Args),
    /// Prints the version.
    Version(version::Args),
}

#[derive(Debug, Subcommand)]
enum Server {
    /// Runs one node for development: in memory, nothing to set up.
    StartDev(start_dev::Args),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let words = start_dev::drop_unknown(as_plugin(std::env::args_os().collect()));
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. A closed standard output is not worth a word.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(cli.command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Unhealthy) => ExitCode::from(2),
        Ok(Outcome::NodeFailed) => ExitCode::from(3),
        Err(error) => {
            eprintln!("bristlecone: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Start(args) => start::run(*args),
        Command::StartDev(args) | Command::Server(Server::StartDev(args)) => start_dev::run(args),
        Command::Cluster(command) => cluster::run(command),
        Command::Visibility(command) => visibility::run(command),
        Command::Bench(args) => bench::run(args),
        Command::Debug(command) => debug::run(&command),
        Command::Completion(args) => Ok(completion::run(&args)),
        Command::Version(args) => version::run(&args),
    }
}

/// `temporal` runs `temporal-cluster` as its own subcommand: under that name the program is `bristlecone cluster`.
fn as_plugin(mut words: Vec<OsString>) -> Vec<OsString> {
    let name = words.first().and_then(|word| Path::new(word).file_stem());
    if name.is_some_and(|name| name == "temporal-cluster") {
        words.insert(1, "cluster".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_plugin_of_the_official_cli_is_the_cluster_command() {
        let words = as_plugin(vec!["/usr/bin/temporal-cluster".into(), "status".into()]);
        assert!(matches!(Cli::try_parse_from(words).expect("known").command, Command::Cluster(_)));
        assert_eq!(as_plugin(vec!["bristlecone".into()]), ["bristlecone"]);
    }

    #[test]
    fn the_sdks_alias_is_the_development_server() {
        let words = ["bristlecone", "server", "start-dev", "--port", "7233"];
        assert!(matches!(Cli::try_parse_from(words).expect("known").command, Command::Server(Server::StartDev(_))));
    }
}
