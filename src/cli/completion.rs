//! `bristlecone completion`.

use clap::CommandFactory;

use super::say::show;
use super::{Cli, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bristlecone", &mut script);
    show(String::from_utf8_lossy(&script));
    Outcome::Done
}
