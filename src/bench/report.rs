//! Figures of a run: a table for people, JSON for programs, a progress bar meanwhile.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinHandle;

use super::ledger::Ledger;
use super::load::Checked;
use super::plan::{Plan, Scenario};
use super::{Config, Measured};

/// What came of a run; times in milliseconds unless named otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub scenario: String,
    pub targets: Vec<String>,
    pub concurrency: Option<usize>,
    pub rate: Option<f64>,
    /// Workflows; with signals and updates, their receivers.
    pub workflows: u64,
    /// Signals, updates or queries.
    pub calls: u64,
    pub seconds: f64,
    /// Seconds that a backlog took to drain.
    pub drain_seconds: Option<f64>,
    pub workflows_per_second: f64,
    pub calls_per_second: Option<f64>,
    pub drained_per_second: Option<f64>,
    pub transitions_per_second: Option<f64>,
    pub start: Option<Percentiles>,
    pub schedule_to_start: Option<Percentiles>,
    pub start_to_completed: Option<Percentiles>,
    /// Of signals, updates or pages.
    pub call: Option<Percentiles>,
    pub count: Option<Percentiles>,
    pub due_to_start: Option<Percentiles>,
    /// CPU time of the server's processes per workflow (per call, when calls are measured).
    pub cpu_ms_each: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub peak_memory_mib: Option<f64>,
    pub peak_memory_of_one_mib: Option<f64>,
    pub disk_bytes_each: Option<f64>,
    pub repeated_calls: u64,
    pub verified_at_server: u64,
    pub wrong: u64,
    pub duplicates: u64,
    pub missing: u64,
    /// Tasks that reached a worker although many of a higher priority waited.
    pub overtaken: u64,
    pub examples: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub count: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
            count: histogram.len(),
        })
    }
}

impl Report {
    pub(super) fn new(config: &Config, ledger: &Ledger, measured: &Measured, checked: &Checked) -> Self {
        let latencies = ledger.latencies();
        let calls = ledger.called_count();
        let workflows = ledger.started_count();
        let each = if calls > 0 { calls } else { workflows }.max(1) as f64;
        let seconds = measured.elapsed.as_secs_f64();
        let per_second = |count: u64| count as f64 / seconds.max(1e-9);
        let missing = if config.scenario == Scenario::StartOnly {
            0
        } else {
            workflows - ledger.completed_count().min(workflows)
        };
        let transitions = checked.transitions_each * workflows;
        Self {
            scenario: config.scenario.name(),
            targets: config.targets.clone(),
            concurrency: config.rate.is_none().then_some(config.concurrency),
            rate: config.rate,
            workflows,
            calls,
            seconds,
            drain_seconds: measured.drained_in.map(|time| time.as_secs_f64()),
            workflows_per_second: per_second(workflows),
            calls_per_second: (calls > 0).then(|| per_second(calls)),
            drained_per_second: measured.drained_in.map(|time| workflows as f64 / time.as_secs_f64().max(1e-9)),
            transitions_per_second: (transitions > 0 && calls == 0).then(|| per_second(transitions)),
            start: Percentiles::of(&latencies.start),
            schedule_to_start: Percentiles::of(&latencies.schedule_to_start),
            start_to_completed: Percentiles::of(&latencies.completed).filter(|_| calls == 0),
            call: Percentiles::of(&latencies.call),
            count: Percentiles::of(&latencies.count),
            due_to_start: Percentiles::of(&latencies.due_to_start),
            cpu_ms_each: measured.has_cpu().then(|| measured.used.cpu.as_secs_f64() * 1e3 / each),
            cpu_seconds: measured.has_cpu().then_some(measured.used.cpu.as_secs_f64()),
            peak_memory_mib: measured.has_cpu().then(|| mib(measured.used.peak_memory)),
            peak_memory_of_one_mib: measured.has_cpu().then(|| mib(measured.used.peak_memory_of_one)),
            disk_bytes_each: (!config.server_dirs.is_empty()).then(|| measured.used.disk as f64 / each),
            repeated_calls: measured.repeated,
            verified_at_server: checked.workflows,
            wrong: checked.wrong,
            duplicates: ledger.duplicates(),
            missing,
            overtaken: ledger.overtaken(),
            examples: checked.examples.clone(),
        }
    }

    /// Every workflow came out as planned.
    pub fn is_right(&self) -> bool {
        self.wrong == 0 && self.duplicates == 0 && self.missing == 0 && self.overtaken == 0
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match (self.rate, self.concurrency) {
            (Some(rate), _) => format!("{rate} starts/s"),
            (None, Some(concurrency)) => format!("{concurrency} at once"),
            (None, None) => String::new(),
        };
        writeln!(f, "{} on {} ({how})\n", self.scenario, self.targets.join(", "))?;
        let mut figures = Table::new();
        figures.load_style(presets::NOTHING);
        let mut row = |name: &str, value: String| {
            figures.add_row([name.to_string(), value]);
        };
        row("workflows", format!("{} in {:.2} s: {:.1}/s", self.workflows, self.seconds, self.workflows_per_second));
        if let Some(rate) = self.calls_per_second {
            row("calls", format!("{} in {:.2} s: {rate:.1}/s", self.calls, self.seconds));
        }
        if let (Some(time), Some(rate)) = (self.drain_seconds, self.drained_per_second) {
            row("drained", format!("in {time:.2} s: {rate:.1}/s"));
        }
        if let Some(rate) = self.transitions_per_second {
            row("transitions", format!("{rate:.0}/s"));
        }
        if let (Some(each), Some(all)) = (self.cpu_ms_each, self.cpu_seconds) {
            let what = if self.calls > 0 { "call" } else { "workflow" };
            row("server CPU", format!("{each:.3} ms a {what} ({all:.2} s)"));
        }
        if let (Some(all), Some(one)) = (self.peak_memory_mib, self.peak_memory_of_one_mib) {
            row("server memory", format!("{all:.0} MiB at most, {one:.0} MiB in the largest"));
        }
        if let Some(each) = self.disk_bytes_each {
            row("server disk", format!("{each:.0} bytes each"));
        }
        row("verified", self.verdict());
        writeln!(f, "{figures}\n")?;

        let mut times = Table::new();
        times.load_style(presets::NOTHING);
        times.set_header(["ms", "p50", "p90", "p99", "p99.9", "max"]);
        let kinds = [
            ("start", self.start),
            ("schedule to start", self.schedule_to_start),
            ("start to completed", self.start_to_completed),
            ("call", self.call),
            ("count", self.count),
            ("due to start", self.due_to_start),
        ];
        for (name, percentiles) in kinds {
            if let Some(p) = percentiles {
                let mut cells = vec![name.to_string()];
                cells.extend([p.p50, p.p90, p.p99, p.p999, p.max].map(|ms| format!("{ms:.2}")));
                times.add_row(cells);
            }
        }
        write!(f, "{times}")
    }
}

impl Report {
    fn verdict(&self) -> String {
        let mut verdict = if self.is_right() {
            format!("all came out as planned ({} asked of the server)", self.verified_at_server)
        } else {
            format!(
                "WRONG: {} missing, {} twice, {} not as planned, {} out of order",
                self.missing, self.duplicates, self.wrong, self.overtaken
            )
        };
        if self.repeated_calls > 0 {
            verdict.push_str(&format!("; {} calls were made again", self.repeated_calls));
        }
        for example in &self.examples {
            verdict.push_str(&format!("\n{example}"));
        }
        verdict
    }
}

impl Measured {
    fn has_cpu(&self) -> bool {
        !self.used.cpu.is_zero()
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A progress bar on standard error; nothing when it isn't a terminal or nobody wants one.
pub(super) fn progress(config: &Config, plan: &Plan, ledger: &Arc<Ledger>) -> Option<JoinHandle<()>> {
    if config.quiet {
        return None;
    }
    let scenario = config.scenario;
    let all = if scenario.calls().is_some() { plan.count() } else { plan.workflows() };
    let bar = ProgressBar::new(all);
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let ledger = Arc::clone(ledger);
    Some(tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(200));
        loop {
            every.tick().await;
            bar.set_position(match scenario {
                Scenario::StartOnly => ledger.started_count(),
                _ if scenario.calls().is_some() => ledger.called_count(),
                _ if scenario.is_backlog() && ledger.completed_count() == 0 => ledger.started_count(),
                _ => ledger.completed_count(),
            });
        }
    }))
}
