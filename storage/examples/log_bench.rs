//! Measures the segment log on a real disk: appends a second in group commit, and how long a commit takes.
//!
//! `cargo run --release -p bristlecone-storage --example log_bench -- [dir] [writers] [seconds] [bytes]`:
//! each writer appends one entry at a time to its own group and waits until it is durable.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bristlecone_proto::record::LogId;
use bristlecone_storage::log::{Log, LogEntry, LogOptions};
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::vfs::RealVfs;
use bytes::Bytes;

/// Writer counts that are measured when none is given.
const WRITERS: [u64; 5] = [1, 4, 16, 64, 256];

#[derive(Debug)]
struct Started(Instant);

impl Entropy for Started {
    fn next(&self) -> u128 {
        self.0.elapsed().as_nanos() << 96
    }
}

fn main() {
    let mut args = env::args().skip(1);
    let dir = args.next().map_or_else(|| env::temp_dir().join("log_bench"), PathBuf::from);
    let writers = args.next().and_then(|count| count.parse().ok());
    let seconds = args.next().and_then(|count| count.parse().ok()).unwrap_or(5);
    let bytes = args.next().and_then(|count| count.parse().ok()).unwrap_or(300);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!("writers  appends/s  syncs/s  appends/sync   p50 ms   p90 ms   p99 ms p99.9 ms   max ms");
    for writers in writers.map_or(WRITERS.to_vec(), |count| vec![count]) {
        let dir = dir.join(format!("{writers}-writers"));
        runtime.block_on(measure(dir, writers, Duration::from_secs(seconds), bytes));
    }
}

async fn measure(dir: PathBuf, writers: u64, time: Duration, bytes: usize) {
    let tasks = Tasks::threaded();
    let entropy = Started(Instant::now());
    let log = Log::open(Arc::new(RealVfs), dir.clone(), LogOptions::default(), &tasks, &entropy).await.expect("a log");
    let mut running = Vec::new();
    let (before, start) = (log.stats().syncs, Instant::now());
    for group in 1..=writers {
        let log = log.clone();
        running.push(tokio::spawn(write(log, group, start + time, Bytes::from(vec![7; bytes]))));
    }
    let mut latencies = Vec::new();
    for writer in running {
        latencies.extend(writer.await.expect("a writer ends by itself"));
    }
    let seconds = start.elapsed().as_secs_f64();
    let syncs = log.stats().syncs - before;
    latencies.sort_unstable();
    let at = |part: f64| {
        let index = (latencies.len() as f64 * part) as usize;
        latencies.get(index.min(latencies.len() - 1)).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    println!(
        "{writers:7}  {:9.0}  {:7.0}  {:12.1}  {:7.3}  {:7.3}  {:7.3}  {:7.3}  {:7.3}",
        latencies.len() as f64 / seconds,
        syncs as f64 / seconds,
        latencies.len() as f64 / syncs as f64,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    log.close().await;
    drop(log);
    let _ = std::fs::remove_dir_all(dir);
}

/// Appends until the time is over; how long each append took.
async fn write(log: Log, group: u64, end: Instant, bytes: Bytes) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut index = log.state(group).last.map_or(1, |last| last.index + 1);
    while Instant::now() < end {
        let entry = LogEntry { id: LogId { term: 1, node_id: 1, index }, bytes: bytes.clone() };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let start = Instant::now();
        log.append(group, vec![entry], Box::new(move |result| drop(sender.send(result))));
        receiver.await.expect("an answer").expect("a durable entry");
        latencies.push(start.elapsed());
        if index.is_multiple_of(1_000) {
            log.release(group, index - 500);
            log.purge(group, LogId { term: 1, node_id: 1, index: index - 500 });
        }
        index += 1;
    }
    latencies
}
