//! `bristlecone completion`.

use clap::CommandFactory;

use super::{Cli, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> Outcome {
    clap_complete::generate(args.shell, &mut Cli::command(), "bristlecone", &mut std::io::stdout());
    Outcome::Done
}
