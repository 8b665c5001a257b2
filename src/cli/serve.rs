//! Runs a node until a signal or a failure ends it.

use std::future::Future;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Outcome;
use crate::node::{self, Env, Node, NodeConfig};

/// Exit code after a second signal, as shells give it for Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Runs a command on a runtime with a thread per core.
pub(super) fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(command);
    // What still runs belongs to a node that was stopped or has failed.
    runtime.shutdown_background();
    outcome
}

/// Starts the node, tells `announce` when it serves, and returns when it has stopped. The first SIGTERM or
/// SIGINT hands leaderships over and stops; the second ends the process at once.
pub(super) async fn node(config: NodeConfig, announce: impl FnOnce(&Node)) -> anyhow::Result<Outcome> {
    let mut signals = Signals::new()?;
    let env = Env::system(&config)?;
    let mut node = tokio::select! {
        started = node::start(config, env) => started?,
        name = signals.next() => {
            tracing::info!("{name} while starting: stops");
            return Ok(Outcome::Done);
        }
    };
    announce(&node);
    tokio::select! {
        reason = node.failed() => {
            tracing::error!(reason, "the node cannot go on: it stops");
            return Ok(Outcome::NodeFailed);
        }
        name = signals.next() => tracing::info!("{name}: hands leaderships over and stops"),
    }
    tokio::select! {
        () = node.stop() => tracing::info!("stopped"),
        name = signals.next() => {
            tracing::warn!("{name} again: ends at once");
            std::process::exit(INTERRUPTED);
        }
    }
    Ok(Outcome::Done)
}

/// The signals that end a node.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
