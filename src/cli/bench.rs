//! `bristlecone bench`: a load on any server of the API, and its figures.

use std::path::PathBuf;
use std::time::Duration;

use super::cluster::Output;
use super::say::say;
use super::{Outcome, serve};
use crate::bench::{self, Config, Scenario};

/// Workers, starters and checks are the generator's own; any server of the same API can be measured.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to measure.
    #[arg(value_enum)]
    scenario: Scenario,
    /// API addresses of the server's nodes.
    #[arg(
        long,
        env = "TEMPORAL_ADDRESS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7233",
        value_name = "HOST:PORT,…"
    )]
    target: Vec<String>,
    #[arg(long, short, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Workflows, signals, updates, queries or schedules.
    #[arg(long, short, default_value_t = 2_000)]
    count: u64,
    /// Workflows before the measured ones.
    #[arg(long, default_value_t = 200)]
    warmup: u64,
    /// How many are under way at once.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Starts (or calls) a second; latencies then count from when each was due.
    #[arg(long, conflicts_with = "concurrency")]
    rate: Option<f64>,
    /// Polls of the workers, for each kind of task.
    #[arg(long, default_value_t = 32)]
    pollers: usize,
    /// Activities always go through the task queue.
    #[arg(long)]
    no_eager: bool,
    /// Every workflow task comes with the whole history.
    #[arg(long)]
    no_sticky: bool,
    /// Milliseconds of a timer in the scenarios `timer` and `open` [default: 1000, 1 day].
    #[arg(long, value_name = "MS")]
    timer_ms: Option<u64>,
    /// Priorities that the scenario `priorities` asks for.
    #[arg(long, default_value_t = 10)]
    priorities: u64,
    /// Seconds until the first schedule is due in the scenario `schedules` [default: 10, and one for each thousand].
    #[arg(long, value_name = "SECONDS")]
    lead: Option<u64>,
    /// Seconds over which schedules are due.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    within: u64,
    /// Bytes of each input and result.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// A process of the server on this machine, with all its children; may be said several times.
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// A directory in which the server keeps its data; may be said several times.
    #[arg(long, value_name = "DIR")]
    server_dir: Vec<PathBuf>,
    /// No progress bar.
    #[arg(long, short)]
    quiet: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    fn into_config(self) -> Config {
        let timer = match (self.timer_ms, self.scenario) {
            (Some(ms), _) => Duration::from_millis(ms),
            (None, Scenario::Open) => Duration::from_secs(86_400),
            (None, _) => Duration::from_secs(1),
        };
        Config {
            targets: self.target,
            namespace: self.namespace,
            scenario: self.scenario,
            count: self.count,
            warmup: self.warmup,
            concurrency: self.concurrency,
            rate: self.rate,
            pollers: self.pollers,
            eager: !self.no_eager,
            sticky: !self.no_sticky,
            timer,
            priorities: self.priorities,
            lead: Duration::from_secs(self.lead.unwrap_or(10 + self.count / 1_000)),
            within: Duration::from_secs(self.within),
            payload: self.payload,
            server_pids: self.server_pid,
            server_dirs: self.server_dir,
            quiet: self.quiet,
        }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    let output = args.output;
    let report = serve::block_on(bench::run(args.into_config()))?;
    match output {
        Output::Table => say(&report),
        Output::Json => say(serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.is_right() { Outcome::Done } else { Outcome::Unhealthy })
}
