//! What a commit costs: three nodes in one process over real files, one group, one decision at a time.
//!
//! Prints latency and processor time per decision. Arguments: decisions, bytes of each.

#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed run")]

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bristlecone_proto::record::Extent;
use bristlecone_raft::{
    Decision, Env, Group, GroupId, Groups, Lane, Members, NodeId, Observer, RaftConfig, Transport, TransportError,
};
use bristlecone_storage::log::{Log, LogOptions};
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::{Batch, BatchBuilder, RocksOptions, RocksStore};
use bristlecone_storage::vfs::RealVfs;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

/// The nodes, as their transports reach them.
type Nodes = Arc<[OnceLock<Groups>; 3]>;

#[derive(Debug)]
struct Direct {
    me: NodeId,
    nodes: Nodes,
}

impl Transport for Direct {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        payload: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        match self.nodes[to as usize - 1].get() {
            Some(groups) => groups.handle(self.me, lane, payload).map(Ok).boxed(),
            None => std::future::ready(Err(TransportError::Unreachable)).boxed(),
        }
    }
}

#[derive(Debug)]
struct Silent;

impl Observer for Silent {
    fn applied(&self, _: GroupId, _: u64, _: &Batch) {}
    fn installed(&self, _: GroupId, _: u64) {}
    fn fatal(&self, group: Option<GroupId>, reason: &str) {
        panic!("group {group:?}: {reason}");
    }
}

#[derive(Debug)]
struct Random;

impl Entropy for Random {
    fn next(&self) -> u128 {
        rand::random()
    }
}

async fn start(me: NodeId, dir: &Path, nodes: &Nodes) -> Groups {
    let dir = dir.join(me.to_string());
    let (vfs, tasks) = (Arc::new(RealVfs), Tasks::threaded());
    let log = Log::open(vfs.clone(), dir.join("log"), LogOptions::default(), &tasks, &Random).await.expect("log");
    let state = RocksStore::open(&dir.join("state"), RocksOptions::small()).expect("store");
    let env = Env {
        node_id: me,
        log,
        state: Arc::new(state),
        vfs,
        transport: Arc::new(Direct { me, nodes: nodes.clone() }),
        tasks,
        entropy: Arc::new(Random),
        observer: Arc::new(Silent),
        config: RaftConfig { staging_dir: dir.join("snapshots"), ..RaftConfig::default() },
    };
    let groups = Groups::new(env).expect("settings");
    groups.open_existing().await.expect("groups");
    nodes[me as usize - 1].set(groups.clone()).expect("started once");
    groups
}

async fn leader(nodes: &Nodes) -> Group {
    loop {
        for node in nodes.iter().filter_map(OnceLock::get) {
            let group = node.group(1).expect("created");
            if group.leadership().borrow().is_local {
                return group;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Processor time of this process so far, in clock ticks of 10 ms.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let after = stat.rsplit(')').next().expect("a name");
    after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u64>().ok());
    let (count, bytes) = (numbers.next().unwrap_or(5_000), numbers.next().unwrap_or(1_000));
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or(".".into())).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let nodes: Nodes = Arc::new([const { OnceLock::new() }; 3]);
        for me in 1..=3 {
            start(me, dir.path(), &nodes).await;
        }
        let voters: Members = (1..=3).map(|me| (me, format!("node-{me}"))).collect();
        for node in nodes.iter().filter_map(OnceLock::get) {
            let extent = Extent { group_id: 1, generation: 1, first_slot: 0, end_slot: 1024 };
            node.create(1, extent, voters.clone(), Members::new()).await.expect("created");
        }
        let group = leader(&nodes).await;
        let epoch = group.begin().await.expect("an epoch");
        let mut took = Vec::with_capacity(count as usize);
        let (began, ticks) = (Instant::now(), processor_ticks());
        for number in 1..=count {
            let mut batch = BatchBuilder::new();
            batch.put(&[0, 1, 1, (number % 251) as u8], &vec![number as u8; bytes as usize]);
            let mutations = batch.finish().expect("small");
            let time = epoch.time + number as i64;
            let decision = Decision { number, time, meta_index: 0, feature_level: 1, mutations };
            let since = Instant::now();
            group.propose(&epoch, decision).await.expect("a decision");
            took.push(since.elapsed());
        }
        let (wall, ticks) = (began.elapsed(), processor_ticks() - ticks);
        took.sort_unstable();
        let at = |per_mille: usize| took[took.len() * per_mille / 1000];
        println!(
            "{count} decisions of {bytes} bytes: {:.0} a second, p50 {:?}, p99 {:?}, {} µs of processor each",
            count as f64 / wall.as_secs_f64(),
            at(500),
            at(990),
            ticks * 10_000 / count,
        );
        for node in nodes.iter().filter_map(OnceLock::get) {
            node.shutdown().await.expect("flushed");
        }
    });
}
