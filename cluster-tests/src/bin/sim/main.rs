//! `sim`: runs of the cluster simulation. See `scripts/sim`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use bristlecone_cluster_tests::sim::campaign::Campaign;
use bristlecone_cluster_tests::sim::options::Options;
use bristlecone_cluster_tests::sim::{notice_panics, run};

const USAGE: &str = "usage: sim run --seed S [--trace FILE] [--plant BUG] [--log FILTER] [--json]
       sim campaign --seeds N [--from S] [--jobs J] [--plant BUG] [--twice-every K]
       sim bugs";
/// Where `seeded.c` finds its seed.
const SEED: &str = "BRISTLECONE_SIM_SEED";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let mut flags = Flags::default();
    while let Some(flag) = arguments.next() {
        if flag == "--json" {
            flags.json = true;
            continue;
        }
        let value = arguments.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
        match flag.as_str() {
            "--seed" | "--from" => flags.seed = value.parse()?,
            "--seeds" => flags.seeds = value.parse()?,
            "--jobs" => flags.jobs = value.parse()?,
            "--twice-every" => flags.twice_every = value.parse()?,
            "--trace" => flags.trace = Some(value.into()),
            "--plant" => flags.plant = Some(value),
            "--log" => flags.log = Some(value),
            _ => bail!("{flag} is unknown\n{USAGE}"),
        }
    }
    match command.as_str() {
        "run" => one(&flags),
        "campaign" => many(flags),
        "bugs" => {
            for bug in bristlecone_storage::planted::Bug::ALL {
                println!("{}", bug.name());
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{USAGE}"),
    }
}

struct Flags {
    seed: u64,
    seeds: u64,
    jobs: u64,
    twice_every: u64,
    trace: Option<PathBuf>,
    plant: Option<String>,
    log: Option<String>,
    json: bool,
}

impl Default for Flags {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Self { seed: 1, seeds: 100, jobs, twice_every: 20, trace: None, plant: None, log: None, json: false }
    }
}

fn one(flags: &Flags) -> anyhow::Result<ExitCode> {
    if std::env::var_os(SEED).is_none() {
        // Again, with all randomness of the process from the seed.
        let failed = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(SEED, flags.seed.to_string())
            .exec();
        return Err(failed.into());
    }
    // The first random numbers of the process are drawn here, whether anything needs them or not.
    drop(std::hash::RandomState::new());
    if let Some(filter) = &flags.log {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    }
    if let Some(name) = &flags.plant {
        let bug = bristlecone_storage::planted::Bug::named(name);
        bristlecone_storage::planted::plant(bug.with_context(|| format!("there is no bug {name}"))?);
    }
    notice_panics();
    let options = Options::draw(flags.seed);
    if !flags.json {
        println!("{options}");
    }
    // In a thread of its own: what was done before, to show logs for instance, changes nothing of the run.
    let trace = flags.trace.clone();
    let running = std::thread::spawn(move || run::run(options, trace.as_deref()));
    let outcome = running.join().map_err(|_| anyhow::anyhow!("the run panicked"))??;
    if flags.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        for (name, times) in &outcome.counts {
            println!("  {name:<28} {times:>9}");
        }
        for violation in &outcome.violations {
            println!("VIOLATED {violation}");
        }
        if let Some(why) = &outcome.void {
            println!("does not count: {why}");
        }
        let seconds = outcome.virtual_ms as f64 / 1000.0;
        println!(
            "seed {}: {seconds:.1} virtual seconds, trace {} ({} lines)",
            flags.seed, outcome.hash, outcome.trace_lines
        );
    }
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn many(flags: Flags) -> anyhow::Result<ExitCode> {
    let campaign = Campaign {
        program: std::env::current_exe()?,
        first: flags.seed,
        seeds: flags.seeds,
        jobs: flags.jobs,
        twice_every: if flags.plant.is_some() { 0 } else { flags.twice_every },
        plant: flags.plant,
        quiet: false,
    };
    let summary = campaign.run()?;
    print!("{}", summary.table());
    let good = if campaign.plant.is_some() { summary.found.is_some() } else { summary.is_good() };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
