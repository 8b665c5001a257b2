//! Many runs, each in a process of its own, on all cores; and the table at the end.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bristlecone_storage::planted::Bug;
use parking_lot::Mutex;

use super::fitting;
use super::run::Outcome;

/// What to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The program `sim`.
    pub program: PathBuf,
    pub first: u64,
    pub seeds: u64,
    pub jobs: u64,
    /// Every so many seeds one runs twice and must come out the same.
    pub twice_every: u64,
    /// A bug that is to be found, and then the campaign ends at the first failure.
    pub plant: Option<String>,
    pub quiet: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    pub runs: u64,
    pub void: Vec<(u64, String)>,
    pub failed: Vec<Outcome>,
    /// Of a planted bug: the violation that shows it, and the seed.
    pub found: Option<(u64, String)>,
    /// Seeds whose two runs differed.
    pub unequal: Vec<u64>,
    pub twice: u64,
    pub virtual_ms: u64,
    pub counts: BTreeMap<String, u64>,
    /// In how many runs each thing was done at all.
    pub in_runs: BTreeMap<String, u64>,
}

/// Runs one seed in a process of its own.
///
/// # Errors
/// The program cannot be started, or says nothing that makes sense.
pub fn one(campaign: &Campaign, seed: u64) -> anyhow::Result<Outcome> {
    let mut command = Command::new(&campaign.program);
    command.arg("run").arg("--seed").arg(seed.to_string()).arg("--json");
    if let Some(bug) = &campaign.plant {
        command.arg("--plant").arg(bug);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("cannot start {}", campaign.program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        format!("seed {seed}: {} and no outcome: {}", output.status, why.lines().last().unwrap_or_default())
    })
}

impl Campaign {
    /// Runs all seeds.
    ///
    /// # Errors
    /// A process of a run came to nothing.
    pub fn run(&self) -> anyhow::Result<Summary> {
        let next = AtomicU64::new(0);
        let summary = Mutex::new(Summary::default());
        let begun = Instant::now();
        let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.jobs.max(1)).map(|_| scope.spawn(|| self.work(&next, &summary, begun))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a thread died"))).collect()
        });
        if !self.quiet && std::io::stderr().is_terminal() {
            eprintln!();
        }
        results.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
        Ok(summary.into_inner())
    }

    fn work(&self, next: &AtomicU64, summary: &Mutex<Summary>, begun: Instant) -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let found = summary.lock().found.is_some();
            if number >= self.seeds || found {
                return Ok(());
            }
            let seed = self.first + number;
            let outcome = one(self, seed)?;
            let again = self.twice_every > 0 && number.is_multiple_of(self.twice_every);
            let second = if again { Some(one(self, seed)?) } else { None };
            if !self.quiet && !outcome.violations.is_empty() {
                eprintln!("seed {seed} FAILED: {}", outcome.violations.join("; "));
            }
            let mut summary = summary.lock();
            if let Some(second) = second {
                summary.twice += 1;
                if second.hash != outcome.hash {
                    summary.unequal.push(seed);
                }
            }
            let bug = self.plant.as_deref().and_then(Bug::named);
            if let Some(what) = bug.and_then(|bug| fitting::found(bug, &outcome)) {
                summary.found.get_or_insert_with(|| (seed, what.clone()));
            }
            summary.add(outcome);
            self.progress(&summary, begun);
        }
    }

    fn progress(&self, summary: &Summary, begun: Instant) {
        if self.quiet {
            return;
        }
        let share = summary.runs as f64 / self.seeds.max(1) as f64;
        let bar: String = (0..30).map(|at| if f64::from(at) < share * 30.0 { '#' } else { '.' }).collect();
        let left = Duration::from_secs_f64(begun.elapsed().as_secs_f64() * (1.0 / share.max(0.001) - 1.0));
        let line = format!(
            "[{bar}] {}/{} seeds, {} failed, {:.1} virtual hours, {} s left",
            summary.runs,
            self.seeds,
            summary.failed.len(),
            summary.virtual_ms as f64 / 3_600_000.0,
            left.as_secs()
        );
        if std::io::stderr().is_terminal() {
            eprint!("\r{line}   ");
            // A progress line that cannot be shown is no reason to stop.
            drop(std::io::stderr().flush());
        } else if summary.runs.is_multiple_of(25) {
            eprintln!("{line}");
        }
    }
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.virtual_ms += outcome.virtual_ms;
        if let Some(why) = &outcome.void {
            self.void.push((outcome.seed, why.clone()));
        } else {
            for (name, times) in &outcome.counts {
                *self.counts.entry(name.clone()).or_default() += times;
                *self.in_runs.entry(name.clone()).or_default() += 1;
            }
        }
        if !outcome.violations.is_empty() {
            self.failed.push(outcome);
        }
    }

    /// Whether every run kept every promise, and every repeated one was the same.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.unequal.is_empty() && self.void.len() as u64 * 10 <= self.runs
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, times) in &self.counts {
            let runs = self.in_runs.get(name).copied().unwrap_or(0);
            text.push_str(&format!("  {name:<28} {times:>9}   in {runs} runs\n"));
        }
        for (seed, why) in &self.void {
            text.push_str(&format!("  seed {seed} does not count: {why}\n"));
        }
        for outcome in &self.failed {
            text.push_str(&format!("  seed {} FAILED: {}\n", outcome.seed, outcome.violations.join("; ")));
        }
        if let Some((seed, what)) = &self.found {
            text.push_str(&format!("  the planted bug is found by seed {seed}: {what}\n"));
        }
        for seed in &self.unequal {
            text.push_str(&format!("  seed {seed} FAILED: two runs, two traces\n"));
        }
        text.push_str(&format!(
            "{} runs, {:.2} virtual hours, {} failed, {} did not count; {} ran twice, {} came out different\n",
            self.runs,
            self.virtual_ms as f64 / 3_600_000.0,
            self.failed.len(),
            self.void.len(),
            self.twice,
            self.unequal.len()
        ));
        text
    }
}
