//! The load generator behind `bristlecone bench`: plain gRPC to any server of the API, with workers of its own.
//!
//! ```text
//! plan.rs     the scenarios: what a workflow of each does, what its outcome has to be
//! load.rs     starts and calls, in a closed loop or at a rate         worker.rs   the canned workers
//! schedule.rs, search.rs   schedules and queries                      update.rs   their answers to updates
//! ledger.rs   what became of each workflow, and how long it took      process.rs  what the server's processes used
//! client.rs   connections and repeated calls                          report.rs   figures, for people and programs
//! ```
//!
//! # Contract
//! Latencies at a rate count from when a start was due, not from when it was sent (no coordinated omission).
//! Every workflow's outcome is checked: at the worker (completed once), and at the server (closed as planned). A
//! workflow that is lost, duplicated or wrong fails the run.
//!
//! # Depends on
//! The generated client of the API only: nothing of this server's inside.
//!
//! # Used by
//! `cli::bench`.

mod client;
mod ledger;
mod load;
mod plan;
mod process;
mod report;
mod schedule;
mod search;
mod update;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

pub use plan::Scenario;
pub use report::Report;

use client::Client;
use ledger::Ledger;
use plan::Plan;
use process::Servers;
use worker::Workers;

/// Workflows whose outcome is asked of the server; of a longer run, a random choice.
const CHECKED_MAX: u64 = 50_000;

/// What to run, and against whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// API addresses, `HOST:PORT`; calls and polls are spread over them.
    pub targets: Vec<String>,
    pub namespace: String,
    pub scenario: Scenario,
    /// Workflows (signals, updates or queries where these are what is measured) of the measured part.
    pub count: u64,
    /// Workflows before it, not measured.
    pub warmup: u64,
    /// In flight at once, without a rate.
    pub concurrency: usize,
    /// Starts a second, however fast the server is.
    pub rate: Option<f64>,
    /// Polls for workflow tasks, and as many for activity tasks.
    pub pollers: usize,
    /// Whether the worker takes activities with the answer that schedules them.
    pub eager: bool,
    /// Whether the worker keeps what it knows of a run between tasks.
    pub sticky: bool,
    /// Time of a timer in the timer scenarios.
    pub timer: Duration,
    /// Priorities, 1 and up, that starts ask for in turn.
    pub priorities: u64,
    /// How long after the beginning the first schedule is due: all must have been made by then.
    pub lead: Duration,
    /// How long after that the last one is due.
    pub within: Duration,
    /// Bytes of input and result of workflows and activities.
    pub payload: usize,
    /// Processes of the server on this machine, with all their children.
    pub server_pids: Vec<u32>,
    /// What the server keeps on disk.
    pub server_dirs: Vec<std::path::PathBuf>,
    /// No progress bar.
    pub quiet: bool,
}

/// Runs a scenario.
///
/// # Errors
/// No server answers, or a call failed for good; not for workflows that came out wrong, which the
/// report counts.
pub async fn run(config: Config) -> anyhow::Result<Report> {
    ensure!(
        config.count > 0 && config.concurrency > 0 && config.pollers > 0 && config.priorities > 0,
        "count, concurrency, pollers and priorities begin at 1"
    );
    ensure!(config.rate.is_none_or(|rate| rate > 0.0), "a rate is more than 0");
    let config = Arc::new(config);
    let client = Client::connect(&config.targets, &config.namespace).await?;
    let servers = Servers::new(&config.server_pids, &config.server_dirs)?;
    if config.warmup > 0 && !config.scenario.leaves_open() && config.scenario != Scenario::Schedules {
        let warm = Config { count: config.warmup, rate: None, quiet: true, ..(*config).clone() };
        let mut pass = Pass::new(Arc::new(warm), client.clone());
        pass.run(&Servers::default()).await.context("while warming up")?;
        pass.finish().await;
    }
    let mut pass = Pass::new(Arc::clone(&config), client);
    let measured = pass.run(&servers).await?;
    let checked = load::check(&pass.client, &pass.plan, &pass.ledger, CHECKED_MAX).await;
    pass.finish().await;
    Ok(Report::new(&config, &pass.ledger, &measured, &checked))
}

/// One run of a scenario: its plan, its workers, its ledger.
struct Pass {
    config: Arc<Config>,
    client: Client,
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    workers: Option<Workers>,
}

/// What the measured part took.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub elapsed: Duration,
    /// Of a backlog: how long its draining took.
    pub drained_in: Option<Duration>,
    pub used: process::Used,
    /// Calls that had to be made again.
    pub repeated: u64,
}

impl Pass {
    fn new(config: Arc<Config>, client: Client) -> Self {
        let plan = Arc::new(Plan::new(&config));
        let ledger = Arc::new(Ledger::new(plan.workflows()));
        Self { config, client, plan, ledger, workers: None }
    }

    fn hire(&mut self) {
        self.workers = Some(Workers::start(&self.config, &self.client, &self.plan, &self.ledger));
    }

    async fn run(&mut self, servers: &Servers) -> anyhow::Result<Measured> {
        let scenario = self.config.scenario;
        if scenario.has_workers() {
            self.hire();
        }
        let is_calls = scenario.calls().is_some();
        if is_calls || scenario == Scenario::Schedules {
            // The receivers, or the schedules, are there before what is measured.
            self.start_all().await?;
        }
        if scenario == Scenario::Schedules {
            let wait = self.plan.until_first_due();
            ensure!(!wait.is_zero(), "not all schedules were made when the first was due: take a longer --lead");
            tokio::time::sleep(wait).await;
        }
        let progress = report::progress(&self.config, &self.plan, &self.ledger);
        let before = servers.read();
        let repeated = self.client.repeated();
        let begun = Instant::now();
        if is_calls {
            load::call_all(&self.config, &self.client, &self.plan, &self.ledger).await?;
        } else if scenario != Scenario::Schedules {
            self.start_all().await?;
        }
        let mut measured = Measured { elapsed: begun.elapsed(), ..Measured::default() };
        if scenario.is_backlog() {
            let filled = Instant::now();
            if scenario == Scenario::Priorities {
                let numbers = 0..self.plan.workflows();
                self.ledger.expect_in_order(numbers.map(|number| worker::level(self.plan.priority(number))));
            }
            self.hire();
            self.ledger.wait_all().await?;
            measured.drained_in = Some(filled.elapsed());
            measured.elapsed = begun.elapsed();
        } else if scenario.has_workers() {
            self.ledger.wait_all().await?;
            measured.elapsed = begun.elapsed();
        }
        measured.used = servers.read().since(&before);
        measured.repeated = self.client.repeated() - repeated;
        if let Some(progress) = progress {
            progress.abort();
        }
        if is_calls && !scenario.has_workers() && self.plan.workflows() > 0 {
            // Now the receivers count what they got.
            self.hire();
            self.ledger.wait_all().await?;
        }
        if scenario == Scenario::Schedules {
            load::forget_schedules(&self.config, &self.client, &self.plan).await?;
        }
        Ok(measured)
    }

    async fn start_all(&self) -> anyhow::Result<()> {
        load::start_all(&self.config, &self.client, &self.plan, &self.ledger).await
    }

    async fn finish(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.stop().await;
        }
    }
}
