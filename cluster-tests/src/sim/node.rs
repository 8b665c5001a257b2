//! A simulated machine: its disk, its clock, and the node that runs on it for a while.
//!
//! # Contract
//! Everything that the node spawns belongs to its `Tasks`, so a crash is: stop them, then roll the disk back. A
//! node that gives up by itself says why; only faults of its disk, and its removal, are good reasons.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bristlecone::cluster::Cluster;
use bristlecone::dynamic::Settings;
use bristlecone::grpc::ApiService;
use bristlecone::node::{Env, NodeConfig, Role, Tuning};
use bristlecone::peer::Model;
use bristlecone_raft::RaftConfig;
use bristlecone_storage::log::LogOptions;
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::{Direction, KeyRange, Limit, ModelOptions, ModelStore, Read};
use bristlecone_storage::vfs::{ModelVfs, Open, Vfs};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::clock::SimClock;
use super::options::Options;
use super::rng::Rng;

/// Room on a machine: little, so that crashes and full disks are cheap to simulate.
pub const CAPACITY: u64 = 64 << 20;
const DATA: &str = "/data";

/// What happens to a node that nobody outside of it decided.
#[derive(Debug)]
pub enum Happening {
    Up(u64),
    /// The node could not be started, or could not go on.
    Ended(u64, String),
}

#[derive(Debug)]
pub struct SimNode {
    pub number: u64,
    pub host: String,
    pub disk: ModelVfs,
    pub clock: Arc<SimClock>,
    /// A bit of its disk was flipped: it may end for that, and is to be replaced.
    pub damaged: AtomicBool,
    store: Mutex<Arc<ModelStore>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    starts: u64,
    /// The node's id, once it was up.
    id: Option<u64>,
    tasks: Option<Tasks>,
    up: Option<Up>,
    stopping: Option<tokio::sync::oneshot::Sender<()>>,
}

/// The parts of a running node that others use.
#[derive(Debug, Clone)]
pub struct Up {
    pub service: ApiService,
    pub cluster: Cluster,
    pub tasks: Tasks,
}

#[derive(Debug)]
struct Seeded(Mutex<Rng>);

impl Entropy for Seeded {
    fn next(&self) -> u128 {
        let mut rng = self.0.lock();
        (u128::from(rng.next()) << 64) | u128::from(rng.next())
    }
}

impl SimNode {
    /// A machine with an empty disk.
    pub fn new(number: u64, seed: u64, clock: SimClock) -> Self {
        let disk = ModelVfs::new(Rng::of(seed, &format!("disk {number}")).next());
        disk.set_capacity(CAPACITY);
        let store = Mutex::new(Arc::new(Self::fresh_store(&disk)));
        let host = host(number);
        let (damaged, state) = (AtomicBool::new(false), Mutex::default());
        Self { number, host, disk, clock: Arc::new(clock), damaged, store, state }
    }

    fn fresh_store(disk: &ModelVfs) -> ModelStore {
        ModelStore::new(Arc::new(disk.clone()), ModelOptions::default())
    }

    pub fn up(&self) -> Option<Up> {
        self.state.lock().up.clone()
    }

    /// Whether a process runs here, be it still starting.
    pub fn runs(&self) -> bool {
        self.state.lock().tasks.is_some()
    }

    /// The id of the node that was up here last.
    pub fn id(&self) -> Option<u64> {
        self.state.lock().id
    }

    /// Flips a bit of a row; says of which.
    pub fn flip_row(&self, rng: &mut Rng) -> Option<String> {
        let store = self.store();
        let all = KeyRange::new(Bytes::new(), Bytes::from_static(&[0xff; 32]));
        let limit = Limit { rows: usize::MAX, bytes: usize::MAX };
        let rows = store.page(&all, Direction::Forward, limit).ok()?.rows;
        let (key, value) = rng.pick(&rows)?;
        let bit = usize::try_from(rng.below(value.len() as u64 * 8)).ok()?;
        store.flip_bit(key, bit).then(|| format!("row {key:02x?}"))
    }

    /// Flips a bit of what the log's files hold; says where.
    pub fn flip_log(&self, rng: &mut Rng) -> Option<String> {
        let directory = Path::new(DATA).join("log");
        let names = self.disk.list(&directory).ok()?;
        let name = rng.pick(&names)?;
        let path = directory.join(name);
        let len = self.disk.open(&path, Open::Existing).ok()?.len().ok()?;
        // Most of a file is written late, or never.
        let end = if rng.per_mille(800) { len.min(64 << 10) } else { len };
        let offset = rng.below(end);
        let bit = u8::try_from(rng.below(8)).unwrap_or(0);
        self.disk.flip(&path, offset, bit).then(|| format!("{} at {offset}", path.display()))
    }

    pub fn store(&self) -> Arc<ModelStore> {
        Arc::clone(&self.store.lock())
    }

    /// Starts a process on this machine.
    pub fn start(
        self: &Arc<Self>,
        options: &Options,
        seeds: Vec<String>,
        network: &Model,
        tell: mpsc::UnboundedSender<Happening>,
    ) {
        let tasks = Tasks::single_threaded();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let starts = {
            let mut state = self.state.lock();
            state.starts += 1;
            state.tasks = Some(tasks.clone());
            state.stopping = Some(stop);
            state.starts
        };
        // A disk without power does not say.
        if matches!(self.disk.exists(&Path::new(DATA).join("identity")), Ok(false)) {
            *self.store.lock() = Arc::new(Self::fresh_store(&self.disk));
        }
        let entropy = Rng::of(options.seed, &format!("node {} start {starts}", self.number));
        let mut env = Env::new(
            Arc::new(network.host(&self.host)),
            Arc::new(self.disk.clone()),
            self.store(),
            Arc::clone(&self.clock) as Arc<_>,
            Arc::new(Seeded(Mutex::new(entropy))),
            tasks.clone(),
        );
        env.tuning = Some(tuning(options));
        env.api_port = false;
        let config = self.config(options, seeds);
        let this = Arc::clone(self);
        tasks.clone().spawn(async move {
            let started = async {
                env.prepare(&config)?;
                bristlecone::node::start(config, env).await
            };
            let mut node = match started.await {
                Ok(node) => node,
                Err(error) => {
                    // The receiver lives as long as the simulation.
                    drop(tell.send(Happening::Ended(this.number, format!("{error:#}"))));
                    return;
                }
            };
            let up = Up { service: node.service(), cluster: node.cluster().clone(), tasks };
            {
                let mut state = this.state.lock();
                state.id = Some(up.cluster.node().node_id);
                state.up = Some(up);
            }
            drop(tell.send(Happening::Up(this.number)));
            tokio::select! {
                biased;
                why = node.failed() => drop(tell.send(Happening::Ended(this.number, why))),
                _ = stopped => {
                    this.state.lock().up = None;
                    node.stop().await;
                }
            }
        });
    }

    /// Asks the process to stop in order; false when it is not that far.
    pub fn ask_to_stop(&self) -> bool {
        let mut state = self.state.lock();
        state.up.is_some() && state.stopping.take().is_some_and(|stop| stop.send(()).is_ok())
    }

    /// Whether a process that was asked to stop is still there, be it held up or about to end.
    pub fn is_stopping(&self) -> bool {
        let state = self.state.lock();
        state.tasks.is_some() && state.stopping.is_none()
    }

    /// Holds the process up, as SIGSTOP does; false when none runs.
    pub fn pause(&self) -> bool {
        let state = self.state.lock();
        if let Some(tasks) = &state.tasks {
            tasks.pause();
        }
        state.tasks.is_some()
    }

    pub fn resume(&self) {
        if let Some(tasks) = &self.state.lock().tasks {
            tasks.resume();
        }
    }

    /// The process dies. With `power` the machine does too, and loses what was not synced.
    pub fn crash(&self, power: bool) {
        let tasks = {
            let mut state = self.state.lock();
            state.up = None;
            state.stopping = None;
            state.tasks.take()
        };
        if let Some(tasks) = tasks {
            tasks.stop();
        }
        if power {
            self.disk.crash();
        } else {
            self.disk.kill();
        }
        // Rows have no log of their own: without a flush they are lost with the process.
        let crashed = self.store.lock().crash();
        *self.store.lock() = Arc::new(crashed);
    }

    fn config(&self, options: &Options, seeds: Vec<String>) -> NodeConfig {
        let first = self.number == 1;
        let role = if first {
            Role::Bootstrap { shards: options.shards, replication_factor: 3 }
        } else {
            Role::Join { seeds }
        };
        let address = |port: u16| std::net::SocketAddr::from((ip(self.number), port));
        let usual = NodeConfig::development(address(7233));
        let mut limits = usual.settings.core.clone();
        if options.mixed && self.number.is_multiple_of(2) {
            limits.history_events_suggest = 8;
            limits.soft_start_ms_max = 100;
        }
        NodeConfig {
            data_dir: Some(PathBuf::from(DATA)),
            node_name: format!("n{}", self.number),
            internal_listen: address(7234),
            role,
            namespaces: if first { vec!["default".to_string()] } else { Vec::new() },
            settings: Settings { core: limits, ..usual.settings.clone() },
            drain_time: Duration::from_secs(3),
            ..usual
        }
    }
}

fn tuning(options: &Options) -> Tuning {
    Tuning {
        log: LogOptions {
            segment_bytes: options.segment_kib << 10,
            spare_segments: 1,
            tail_bytes: 1 << 20,
            queued_bytes: 4 << 20,
        },
        raft: RaftConfig {
            flush_interval: options.flush_interval,
            flush_log_bytes: options.flush_log_kib << 10,
            keep_log_bytes: options.keep_log_kib << 10,
            keep_log_for_slow_bytes: options.keep_log_kib << 12,
            snapshot_chunk_bytes: 16 << 10,
            ..RaftConfig::default()
        },
    }
}

fn ip(number: u64) -> [u8; 4] {
    [10, 0, 0, u8::try_from(number).unwrap_or(u8::MAX)]
}

pub fn host(number: u64) -> String {
    let [a, b, c, d] = ip(number);
    format!("{a}.{b}.{c}.{d}")
}
