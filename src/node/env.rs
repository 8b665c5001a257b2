//! What a node runs on: network, files, rows, clock, randomness, tasks. The simulation brings its own.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bristlecone_raft::RaftConfig;
use bristlecone_storage::log::LogOptions;
use bristlecone_storage::runtime::{Clock, Entropy, SystemClock, Tasks};
use bristlecone_storage::state::{RocksOptions, RocksStore, StateStore};
use bristlecone_storage::vfs::{DirLock, ModelVfs, RealVfs, Vfs};
use tokio::sync::watch;

use super::config::NodeConfig;
use super::identity::DataDir;
use crate::peer::{Network, TcpNetwork};

#[derive(Debug, Clone)]
pub struct Env {
    pub network: Arc<dyn Network>,
    pub vfs: Arc<dyn Vfs>,
    pub state: Arc<dyn StateStore>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub tasks: Tasks,
    /// Settings of the log and of the groups; `None`: what suits the kind of data directory.
    pub tuning: Option<Tuning>,
    /// Whether the API is served on a port. Without one only [`super::Node::service`] has it.
    pub api_port: bool,
    /// Held while the process uses the data directory.
    _lock: Option<Arc<dyn DirLock>>,
    stopping: watch::Sender<bool>,
}

/// Settings of what stands below the shards.
#[derive(Debug, Clone)]
pub struct Tuning {
    pub log: LogOptions,
    pub raft: RaftConfig,
}

/// The operating system's randomness.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next(&self) -> u128 {
        rand::random()
    }
}

impl Env {
    /// The operating system's everything; the rows are opened here, because that may take long.
    pub fn system(config: &NodeConfig) -> anyhow::Result<Self> {
        let options = |base: RocksOptions| RocksOptions {
            memtable_bytes: config.memory_budget / 3,
            cache_bytes: config.memory_budget / 3 * 2,
            ..base
        };
        let (vfs, state, lock): (Arc<dyn Vfs>, Arc<dyn StateStore>, _) = match &config.data_dir {
            Some(dir) => {
                let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
                let data = DataDir::new(Arc::clone(&vfs), dir)?;
                let lock = vfs.lock(dir);
                let lock = lock.with_context(|| format!("another process uses {}", dir.display()))?;
                // A directory that is not ours is refused before anything is created in it.
                data.prepare(&config.role, &fresh_key())?;
                let state = RocksStore::open(&data.state(), options(RocksOptions::server()));
                let state = state.with_context(|| format!("cannot open {}", data.state().display()))?;
                (vfs, Arc::new(state), Some(Arc::from(lock)))
            }
            None => {
                let state = RocksStore::in_memory(options(RocksOptions::small())).context("cannot open the store")?;
                let vfs: Arc<dyn Vfs> = Arc::new(ModelVfs::volatile());
                DataDir::new(Arc::clone(&vfs), &root(config))?.prepare(&config.role, &fresh_key())?;
                (vfs, Arc::new(state), None)
            }
        };
        let env = Self::new(
            Arc::new(TcpNetwork),
            vfs,
            state,
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            Tasks::threaded(),
        );
        Ok(Self { _lock: lock, ..env })
    }

    pub fn new(
        network: Arc<dyn Network>,
        vfs: Arc<dyn Vfs>,
        state: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        tasks: Tasks,
    ) -> Self {
        Self {
            network,
            vfs,
            state,
            clock,
            entropy,
            tasks,
            tuning: None,
            api_port: true,
            _lock: None,
            stopping: watch::Sender::new(false),
        }
    }

    /// Makes a data directory without identity ready for its first start; see `identity.rs`. To be called before
    /// [`super::start`] by whoever brings an environment of his own.
    ///
    /// # Errors
    /// The directory holds data that no first start left there.
    pub fn prepare(&self, config: &NodeConfig) -> anyhow::Result<()> {
        let key = uuid::Builder::from_random_bytes(self.entropy.next().to_be_bytes()).into_uuid().to_string();
        self.data_dir(config)?.prepare(&config.role, &key)
    }

    /// Turns true when the API has to stop taking calls.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    pub(super) fn stop_serving(&self) {
        self.stopping.send_replace(true);
    }

    pub(super) fn data_dir(&self, config: &NodeConfig) -> anyhow::Result<DataDir> {
        DataDir::new(Arc::clone(&self.vfs), &root(config))
    }

    pub(super) fn log_dir(&self, config: &NodeConfig) -> PathBuf {
        root(config).join("log")
    }

    pub(super) fn snapshots_dir(&self, config: &NodeConfig) -> PathBuf {
        root(config).join("snapshots")
    }
}

fn fresh_key() -> String {
    uuid::Builder::from_random_bytes(SystemEntropy.next().to_be_bytes()).into_uuid().to_string()
}

/// The data directory, or the root of the file system in memory.
fn root(config: &NodeConfig) -> PathBuf {
    config.data_dir.clone().unwrap_or_else(|| PathBuf::from("/memory"))
}
