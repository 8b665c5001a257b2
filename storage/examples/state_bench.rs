//! What the state store costs: transitions and reads, in calls a second and CPU time a call.
//!
//! ```text
//! cargo run --release -p bristlecone-storage --example state_bench [-- seconds [directory]]
//! ```
//! A transition is 10 puts of 100 to 300 bytes and 5 deletes over 50,000 runs. With a directory, the
//! store is on its disk, else in a temporary one; every measurement is made in memory too.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bristlecone_storage::state::keys::{ChainRow, Key, RunRow, history_rows, run_rows};
use bristlecone_storage::state::{Batch, BatchBuilder, Direction, Read, RocksOptions, RocksStore, StateStore, keys};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("state-bench-{}", std::process::id()));
    let long = Duration::from_secs(seconds);

    let before = resident();
    let opening = Instant::now();
    let store = RocksStore::in_memory(RocksOptions::small())?;
    println!("in memory: open in {:.1?}, {} KiB of memory", opening.elapsed(), resident() - before);
    measure(&store, long)?;
    drop(store);

    let opening = Instant::now();
    let store = RocksStore::open(&directory, RocksOptions::server())?;
    println!("on disk: made in {:.1?}", opening.elapsed());
    measure(&store, long)?;
    let usage = store.usage()?;
    println!(
        "  {} MiB on disk, {} MiB unflushed, {} MiB cached",
        usage.disk >> 20,
        usage.unflushed >> 20,
        usage.cache >> 20
    );
    snapshot(&store, &directory)?;
    drop(store);
    let opening = Instant::now();
    drop(RocksStore::open(&directory, RocksOptions::server())?);
    println!("  opened again in {:.1?}", opening.elapsed());
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn measure(store: &RocksStore, long: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = Numbers(1);
    timed("build a transition", long / 3, |_| {
        std::hint::black_box(transition(&mut numbers));
        Ok::<(), Infallible>(())
    })?;
    timed("build and write a transition", long, |_| store.write(&[transition(&mut numbers)]))?;
    timed("write 16 transitions at once", long, |_| {
        let batches: Vec<Batch> = (0..16).map(|_| transition(&mut numbers)).collect();
        store.write(&batches)
    })?;
    let started = Instant::now();
    store.flush()?;
    println!("  flush in {:.1?}", started.elapsed());
    timed("get a row", long, |_| store.get(&head(numbers.below(RUNS))).map(drop))?;
    timed("get a row that is not there", long, |_| store.get(&head(RUNS + numbers.below(RUNS))).map(drop))?;
    timed("load a run by a scan", long, |_| {
        let run = run_id(numbers.below(RUNS));
        store.scan(&run_rows(slot(0), &run), Direction::Forward, &mut |key, value| {
            std::hint::black_box((key, value));
            ControlFlow::Continue(())
        })
    })?;
    timed("read a history backwards", long, |_| {
        let run = run_id(numbers.below(RUNS));
        let limit = bristlecone_storage::state::Limit { rows: 20, bytes: 1 << 20 };
        store.page(&history_rows(slot(0), &run), Direction::Reverse, limit).map(drop)
    })?;
    timed("read at the persisted tier", long, |_| store.persisted(&keys::group_state(1)).map(drop))?;
    timed("take a view", long / 3, |_| store.view().get(b"a").map(drop))?;
    Ok(())
}

fn snapshot(store: &RocksStore, directory: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let files = store.view().export(&[keys::slot_range(0, keys::SLOTS)], &directory.join("snapshot"))?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    println!("  export of {} files, {} MiB in {:.1?}", files.len(), bytes >> 20, started.elapsed());
    let started = Instant::now();
    store.ingest(&files, &Batch::default())?;
    println!("  ingest in {:.1?}", started.elapsed());
    let started = Instant::now();
    store.verify()?;
    println!("  verify in {:.1?}", started.elapsed());
    Ok(())
}

/// Calls until the time is over, and prints what one call costs.
fn timed<E>(what: &str, long: Duration, mut call: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
    let (started, own, all) = (Instant::now(), own_cpu(), whole_cpu());
    let mut calls = 0;
    while started.elapsed() < long {
        for _ in 0..16 {
            call(calls)?;
            calls += 1;
        }
    }
    let (took, own, all) = (started.elapsed(), own_cpu() - own, whole_cpu() - all);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
    println!(
        "  {what}: {:.0}/s, {:.2} µs each; CPU {:.2} µs, and {:.2} µs in the background",
        calls as f64 / took.as_secs_f64(),
        each(took),
        each(own),
        each(all.saturating_sub(own))
    );
    Ok(())
}

const RUNS: u64 = 50_000;

/// A transition of a run: history, head, pending rows that come and go, a task, a deadline, index rows.
fn transition(numbers: &mut Numbers) -> Batch {
    let number = numbers.below(RUNS);
    let (run, workflow) = (run_id(number), format!("workflow-{number}"));
    // Half of a value compresses away.
    let value = |numbers: &mut Numbers| {
        let mut value = vec![0; 100 + numbers.below(201) as usize];
        value.iter_mut().step_by(2).for_each(|byte| *byte = numbers.below(256) as u8);
        value
    };
    let slot = slot(number);
    let event = numbers.below(1000) as i64;
    let mut batch = BatchBuilder::new();
    let mut key = Vec::with_capacity(128);
    let mut put = |batch: &mut BatchBuilder, row: &Key<'_>, value: &[u8]| {
        key.clear();
        row.encode_to(slot, &mut key);
        batch.put(&key, value);
    };
    put(&mut batch, &Key::history(&run, event), &value(numbers));
    put(&mut batch, &Key::run(&run, RunRow::Head), &value(numbers));
    put(&mut batch, &Key::chain("default", &workflow, ChainRow::Record), &value(numbers));
    for offset in 0..7 {
        put(&mut batch, &Key::run(&run, RunRow::Activity { event: event + offset }), &value(numbers));
    }
    for offset in 0..5 {
        batch.delete_row(slot, &Key::run(&run, RunRow::Activity { event: event + offset - 500 }));
    }
    batch.finish().expect("the batch is well-formed")
}

fn head(number: u64) -> Vec<u8> {
    Key::run(&run_id(number), RunRow::Head).encode(slot(number))
}

fn slot(number: u64) -> keys::Slot {
    (number % 8) as keys::Slot
}

fn run_id(number: u64) -> String {
    format!("{number:08x}-0000-4000-8000-{number:012x}")
}

/// A small generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// CPU time of this thread.
fn own_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// CPU time of the whole process.
fn whole_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: user and system time are the 12th and 13th fields, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
}
