//! `bristlecone start`: a node of a cluster.

use std::path::PathBuf;

use super::settings::Settings;
use super::{Outcome, logging, serve, unjoined};
use crate::node::Role;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A TOML file with settings of the same names as the flags.
    #[arg(long, env = "BRISTLECONE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let file = args.config.as_deref().map(Settings::from_file).transpose()?;
    let settings = args.settings.or(file.unwrap_or_default());
    logging::init(settings.log_level(), settings.log_format())?;
    let mut config = settings.into_config()?;
    if !config.listen.ip().is_loopback() || !config.internal_listen.ip().is_loopback() {
        tracing::warn!("--insecure: ports are open to other machines without TLS and authorisation");
    }
    serve::block_on(async move {
        if config.role == Role::Restart && unjoined::is_unused(&config) {
            match unjoined::wait(&config).await? {
                Some(seed) => config.role = Role::Join { seeds: vec![seed] },
                None => return Ok(Outcome::Done),
            }
        }
        serve::node(config, |node| {
            let who = node.cluster().node();
            tracing::info!(
                node = who.node_id,
                name = who.name,
                api = node.api_address(),
                internal = node.internal_address(),
                "serves"
            );
        })
        .await
    })
}
