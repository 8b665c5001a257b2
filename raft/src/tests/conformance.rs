//! openraft's own suite for log stores and state machines, over ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bristlecone_storage::log::{Log, LogOptions};
use bristlecone_storage::runtime::{Entropy, Tasks};
use bristlecone_storage::state::{ModelOptions, ModelStore, RocksOptions, RocksStore, StateStore};
use bristlecone_storage::vfs::{ModelVfs, RealVfs, Vfs};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::RaftConfig;
use crate::log_store::LogStore;
use crate::purge::Growth;
use crate::shared::{AppliedState, Shared, group_rows};
use crate::snapshot::Snapshots;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;
use crate::{GroupId, Observer};

const GROUP: GroupId = 7;

#[derive(Debug)]
struct Silent;

impl Observer for Silent {
    fn applied(&self, _: GroupId, _: u64, _: &bristlecone_storage::state::Batch) {}
    fn installed(&self, _: GroupId, _: u64) {}
    fn fatal(&self, _: Option<GroupId>, reason: &str) {
        panic!("{reason}");
    }
}

#[derive(Debug)]
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn next(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 13
    }
}

async fn stores(vfs: Arc<dyn Vfs>, state: Arc<dyn StateStore>, dir: &Path, tasks: Tasks) -> (LogStore, StateMachine) {
    let entropy = Arc::new(Counter(1.into()));
    let config = RaftConfig { staging_dir: dir.join("snapshots"), ..RaftConfig::default() };
    let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    let log = Log::open(vfs.clone(), dir.join("log"), options, &tasks, &*entropy).await.expect("log");
    let snapshots = Snapshots::new(vfs, tasks.clone(), entropy, &config).expect("staging");
    state.write(&[group_rows(GROUP, &AppliedState::default())]).expect("rows");
    let shared = Shared::load(GROUP, state, Arc::new(Silent)).expect("rows").expect("just written");
    let shared = Arc::new(shared);
    let log_store = LogStore::new(shared.clone(), log, Growth::new(u64::MAX), config.append_bytes_max);
    let machine = StateMachine::new(shared, Arc::new(snapshots), tasks, &config);
    (log_store, machine)
}

/// All stores share a disk, as a snapshot is passed from one to the other in files.
struct Model {
    vfs: ModelVfs,
    built: AtomicU64,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ()> for Model {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let state = Arc::new(ModelStore::new(vfs.clone(), ModelOptions::default()));
        let dir = PathBuf::from(format!("/data-{}", self.built.fetch_add(1, Ordering::Relaxed)));
        let (log, machine) = stores(vfs, state, &dir, Tasks::single_threaded()).await;
        Ok(((), log, machine))
    }
}

struct Real;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Real {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a directory");
        let options = RocksOptions::small();
        let state = RocksStore::open(&dir.path().join("state"), options).expect("a store");
        let (log, machine) = stores(Arc::new(RealVfs), Arc::new(state), dir.path(), Tasks::threaded()).await;
        Ok((dir, log, machine))
    }
}

#[tokio::test(start_paused = true)]
async fn over_models() {
    Suite::test_all(Model { vfs: ModelVfs::new(1), built: AtomicU64::new(0) }).await.expect("conformance");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_files() {
    Suite::test_all(Real).await.expect("conformance");
}
