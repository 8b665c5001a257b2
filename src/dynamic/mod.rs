//! Dynamic configuration: limits and switches by the well-known keys, for all, for a namespace or for a task queue.
//!
//! # Contract
//! A reader gets a whole set of settings: of before a change, or of after it. A file that makes no sense is refused
//! at the start; later it is warned of, and what held before goes on.
//!
//! keys.rs   which keys there are and what each sets   file.rs   the form of the file
//!
//! # Used by
//! The API's edge by the namespace of the call, shards by the namespace of the chain.

mod file;
mod keys;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bristlecone_machine::Limits;
use parking_lot::RwLock;

pub use self::file::TaskType;
use self::file::{Constraints, Entry};
pub use self::keys::{Setting, apply, is_known};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// All that can be set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// What the state machine and the shards go by.
    pub core: Limits,
    pub edge: EdgeSettings,
}

/// What only the API's edge goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeSettings {
    /// How long a poll waits for a task, milliseconds (`matching.longPollExpirationInterval`).
    pub poll_ms: i64,
    /// How long a reader of a history waits for its next event, milliseconds (`history.longPollExpirationInterval`).
    pub history_wait_ms: i64,
    /// How long a reader of a standalone activity waits, milliseconds (`activity.longPollTimeout`).
    pub activity_wait_ms: i64,
    /// Events of one page of a history (`limit.historyMaxPageSize`).
    pub history_page_max: u32,
    /// Rows of one page of a listing (`frontend.visibilityMaxPageSize`).
    pub listing_page_max: u32,
    /// Least retention of a namespace, milliseconds (`system.namespaceMinRetentionLocal`).
    pub retention_ms_min: i64,
    /// Bad binaries of a namespace (`frontend.maxBadBinaries`).
    pub bad_binaries_max: usize,
    /// Bytes of a worker's build id (`limit.workerBuildIdSize`).
    pub build_id_bytes_max: usize,
    /// Whether workflows may be queried (`system.disallowQuery` says no), updated
    /// (`frontend.enableUpdateWorkflowExecution`), and started by schedules (`frontend.enableSchedules`).
    pub queries: bool,
    pub updates: bool,
    pub schedules: bool,
    /// Whether there are activities without a workflow (`activity.enableStandalone`).
    pub standalone_activities: bool,
    /// Requests a second (`frontend.rps`, `frontend.globalRPS`).
    pub rps: Allowance,
    /// Requests a second of a namespace (`frontend.namespaceRPS`, `frontend.globalNamespaceRPS`), and how many seconds'
    /// worth of them at once (`frontend.namespaceBurstRatio`).
    pub namespace_rps: Allowance,
    pub namespace_burst: f64,
    /// Likewise lists and counts (the same keys with `.visibility`).
    pub visibility_rps: Allowance,
    pub visibility_burst: f64,
    /// Likewise changes of the namespace and its queues' limits (with `.namespaceReplicationInducingAPIs`).
    pub metadata_rps: Allowance,
    pub metadata_burst: f64,
    /// Calls of a namespace that may wait at one time, of each RPC that waits (`frontend.namespaceCount`,
    /// `frontend.globalNamespaceCount`).
    pub waits: Allowance,
    /// Whether the first workflow task may go with the answer to a start (`system.enableEagerWorkflowStart`).
    pub eager_start: bool,
    /// Whether workers are told that their polls end when they say goodbye, so that they wait for what those bring
    /// instead of dropping them (`frontend.enableCancelWorkerPollsOnShutdown`). The polls end in any case.
    pub polls_end_at_shutdown: bool,
    /// Whether workflow rules are made and looked at (`frontend.workflowRulesAPIsEnabled`); those that there are apply
    /// in any case. And how many a namespace has (`frontend.maxWorkflowRulesPerNamespace`).
    pub workflow_rules: bool,
    pub workflow_rules_max: u64,
}

/// How much a node takes; 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Allowance {
    /// What is said of each node.
    pub node: f64,
    /// What is said of the cluster: if anything, it holds instead, and each node has its share.
    pub cluster: f64,
}

impl Allowance {
    /// What one of so many nodes takes; `None`: there is no limit.
    pub fn of_node(self, nodes: impl FnOnce() -> usize) -> Option<f64> {
        let limit = if self.cluster > 0.0 { self.cluster / nodes().max(1) as f64 } else { self.node };
        (limit > 0.0).then_some(limit)
    }
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            poll_ms: 60_000,
            history_wait_ms: 20_000,
            activity_wait_ms: 20_000,
            history_page_max: 256,
            listing_page_max: 1_000,
            retention_ms_min: 3_600_000,
            bad_binaries_max: 10,
            build_id_bytes_max: 255,
            queries: true,
            updates: true,
            schedules: true,
            standalone_activities: true,
            rps: Allowance::default(),
            namespace_rps: Allowance::default(),
            namespace_burst: 2.0,
            visibility_rps: Allowance::default(),
            visibility_burst: 1.0,
            metadata_rps: Allowance::default(),
            metadata_burst: 10.0,
            waits: Allowance { node: 20_000.0, cluster: 0.0 },
            eager_start: true,
            polls_end_at_shutdown: false,
            workflow_rules: false,
            workflow_rules_max: 10,
        }
    }
}

/// The settings of the moment.
#[derive(Debug)]
pub struct Dynamic {
    /// What the command line says; the file goes on top.
    base: Settings,
    file: Option<PathBuf>,
    now: RwLock<Arc<Loaded>>,
}

#[derive(Debug, PartialEq)]
struct Loaded {
    all: Arc<Settings>,
    namespaces: HashMap<String, Arc<Settings>>,
    /// How long polls wait, where that is said of task queues; milliseconds.
    polls: BTreeMap<Constraints, i64>,
}

impl Dynamic {
    /// Settings that do not change.
    pub fn fixed(base: Settings) -> Self {
        let now = RwLock::new(Arc::new(loaded(&base, &[])));
        Self { base, file: None, now }
    }

    /// Settings that a file changes, now and whenever it is written.
    ///
    /// # Errors
    /// The file cannot be read, or makes no sense; the message names the line.
    pub fn of_file(base: Settings, path: PathBuf) -> anyhow::Result<Self> {
        let now = RwLock::new(Arc::new(loaded(&base, &read(&path)?)));
        Ok(Self { base, file: Some(path), now })
    }

    /// What holds where no namespace is asked for.
    pub fn all(&self) -> Arc<Settings> {
        Arc::clone(&self.now.read().all)
    }

    /// What holds in a namespace.
    pub fn of(&self, namespace: &str) -> Arc<Settings> {
        let now = self.now.read();
        Arc::clone(now.namespaces.get(namespace).unwrap_or(&now.all))
    }

    /// How long a poll of a task queue waits: what is said most narrowly holds.
    pub fn poll_time(&self, namespace: &str, queue: &str, task_type: TaskType) -> Duration {
        let now = self.now.read();
        let of = |namespace: Option<&str>, task_type| Constraints {
            namespace: namespace.map(str::to_owned),
            task_queue: Some(queue.to_owned()),
            task_type,
        };
        let narrow = if now.polls.is_empty() {
            None
        } else {
            let namespace = Some(namespace);
            [of(namespace, Some(task_type)), of(namespace, None), of(None, None)]
                .iter()
                .find_map(|scope| now.polls.get(scope).copied())
        };
        let settings = now.namespaces.get(namespace).unwrap_or(&now.all);
        Duration::from_millis(narrow.unwrap_or(settings.edge.poll_ms).unsigned_abs())
    }

    /// Reads the file again whenever it changes; ends at once without one.
    pub async fn follow(&self) {
        let Some(path) = &self.file else { return };
        let mut seen = stamp(path);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stamp = stamp(path);
            if stamp == seen {
                continue;
            }
            seen = stamp;
            match read(path) {
                Ok(entries) => self.take(&entries),
                Err(error) => {
                    tracing::warn!(file = %path.display(), "the dynamic configuration stays as it was: {error:#}");
                }
            }
        }
    }

    fn take(&self, entries: &[Entry]) {
        let next = Arc::new(loaded(&self.base, entries));
        let mut now = self.now.write();
        if **now != *next {
            *now = next;
            tracing::info!("the dynamic configuration has changed");
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let known = std::fs::metadata(path).ok()?;
    Some((known.modified().ok()?, known.len()))
}

fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    file::parse(&text).with_context(|| format!("{} is no dynamic configuration", path.display()))
}

/// Of entries of one key with the same constraints the first holds.
fn loaded(base: &Settings, entries: &[Entry]) -> Loaded {
    let set = |settings: &mut Settings, namespace: Option<&str>| {
        let meant = |entry: &&Entry| {
            entry.constraints.task_queue.is_none() && entry.constraints.namespace.as_deref() == namespace
        };
        for entry in entries.iter().rev().filter(meant) {
            entry.key.set(settings, &entry.value).expect("the values of a file are tried when it is read");
        }
    };
    let mut all = base.clone();
    set(&mut all, None);
    let mut namespaces: HashMap<String, Arc<Settings>> = HashMap::new();
    for name in entries.iter().filter_map(|entry| entry.constraints.namespace.as_ref()) {
        if !namespaces.contains_key(name) {
            let mut settings = all.clone();
            set(&mut settings, Some(name));
            namespaces.insert(name.clone(), Arc::new(settings));
        }
    }
    let mut polls = BTreeMap::new();
    for entry in entries.iter().rev().filter(|entry| entry.constraints.task_queue.is_some()) {
        let mut settings = Settings::default();
        entry.key.set(&mut settings, &entry.value).expect("the values of a file are tried when it is read");
        polls.insert(entry.constraints.clone(), settings.edge.poll_ms);
    }
    Loaded { all: Arc::new(all), namespaces, polls }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dynamic(text: &str) -> Dynamic {
        let mut base = Settings::default();
        base.core.callbacks_max = 7;
        let dynamic = Dynamic::fixed(base);
        dynamic.take(&file::parse(text).expect(text));
        dynamic
    }

    #[test]
    fn the_narrowest_value_holds() {
        let dynamic = dynamic(
            "limit.blobSize.error:\n- value: 100\n- value: 200\n  constraints: {namespace: a}\n- value: 300\n\
             limit.memoSize.error:\n- value: 50\n  constraints:\n    namespace: a\n",
        );
        let of = |name: &str| {
            let settings = dynamic.of(name);
            (settings.core.blob_bytes_max, settings.core.memo_bytes_max, settings.core.callbacks_max)
        };
        assert_eq!(of("a"), (200, 50, 7));
        assert_eq!(of("b"), (100, 2 << 20, 7));
        assert_eq!(dynamic.all().core.blob_bytes_max, 100);
    }

    #[test]
    fn polls_are_set_by_queue() {
        let dynamic = dynamic(
            "matching.longPollExpirationInterval:\n- value: 10s\n- value: 9s\n  constraints: {namespace: a}\n\
             - value: 8s\n  constraints: {taskQueueName: q}\n\
             - value: 7s\n  constraints: {namespace: a, taskQueueName: q}\n\
             - value: 6s\n  constraints: {namespace: a, taskQueueName: q, taskType: Activity}\n",
        );
        let time = |namespace: &str, queue: &str, kind| dynamic.poll_time(namespace, queue, kind).as_secs();
        assert_eq!(time("a", "q", TaskType::Activity), 6);
        assert_eq!(time("a", "q", TaskType::Workflow), 7);
        assert_eq!(time("b", "q", TaskType::Workflow), 8);
        assert_eq!(time("a", "p", TaskType::Workflow), 9);
        assert_eq!(time("b", "p", TaskType::Nexus), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_it_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dynamic.yaml");
        std::fs::write(&path, "limit.maxIDLength:\n- value: 10\n").expect("written");
        let dynamic = Arc::new(Dynamic::of_file(Settings::default(), path.clone()).expect("it makes sense"));
        assert_eq!(dynamic.all().core.id_bytes_max, 10);
        let following = tokio::spawn({
            let dynamic = Arc::clone(&dynamic);
            async move { dynamic.follow().await }
        });
        let after = async |text: &str| {
            std::fs::write(&path, text).expect("written");
            tokio::time::sleep(LOOK_EVERY * 2).await;
            dynamic.all().core.id_bytes_max
        };
        // It looks once before the first change.
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert_eq!(after("limit.maxIDLength:\n- value: 1234\n").await, 1234);
        assert_eq!(after("limit.maxIDLength:\n- value: many\n").await, 1234, "what makes no sense changes nothing");
        assert_eq!(after("{}").await, 1000, "what is not said has its default");
        following.abort();
    }
}
