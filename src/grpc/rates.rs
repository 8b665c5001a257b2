//! How many requests a second a node takes, in all and of one namespace; those that can wait are refused first.
//!
//! # Contract
//! ```text
//! frontend.rps                    all that is in the table below, on this node
//! frontend.namespaceRPS           likewise of one namespace; bursts of so many seconds: frontend.namespaceBurstRatio
//! frontend.namespaceRPS.visibility                        lists and counts of one namespace
//! frontend.namespaceRPS.namespaceReplicationInducingAPIs  changes of the namespace itself and of its queues' limits
//! ```
//! A rate of 0, the default, is no limit. The same keys with `global` (frontend.globalRPS, frontend.globalNamespaceRPS…)
//! are for the whole cluster: each node has its share of them, and what they say goes before what is said of a node. Each level of urgency has a bucket, and what is taken from one is taken from
//! those of all less urgent levels too: a namespace at its limit has its polls refused before its completions.
//! Urgency as in Temporal's server, service/frontend/configs/quotas.go. Health and reflection are never refused.
//!
//! # Used by
//! `service.rs` (the node's limit), `namespaces.rs` (a namespace's).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::{Result, errors};
use crate::dynamic::EdgeSettings;

/// Levels of urgency, 0 the most urgent.
const LEVELS: usize = 6;
/// Namespaces whose rates are kept; beyond, all begin anew.
const NAMESPACES_MAX: usize = 10_000;

/// Which limit an RPC falls under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quota {
    /// With its level.
    Execution(usize),
    Visibility,
    /// Changes of what all nodes know.
    Metadata,
}

impl Quota {
    /// Of an RPC by its name.
    pub fn of(rpc: &str) -> Self {
        match rpc {
            "UpdateNamespace" | "UpdateTaskQueueConfig" => Self::Metadata,
            "ListWorkers"
            | "CountWorkers"
            | "DescribeWorker"
            | "ListSchedules"
            | "CountSchedules"
            | "ListBatchOperations" => Self::Visibility,
            _ if rpc.ends_with("WorkflowExecutions") || rpc.ends_with("ActivityExecutions") => Self::Visibility,
            "GetClusterInfo"
            | "GetSystemInfo"
            | "GetSearchAttributes"
            | "DescribeNamespace"
            | "ListNamespaces"
            | "DeprecateNamespace" => Self::Execution(0),
            "SignalWorkflowExecution"
            | "SignalWithStartWorkflowExecution"
            | "StartWorkflowExecution"
            | "UpdateWorkflowExecution"
            | "ExecuteMultiOperation"
            | "CreateSchedule"
            | "StartBatchOperation"
            | "StartActivityExecution"
            | "RecordActivityTaskHeartbeat"
            | "RecordActivityTaskHeartbeatById"
            | "RespondActivityTaskCompleted"
            | "RespondActivityTaskCompletedById"
            | "RespondWorkflowTaskCompleted"
            | "RespondQueryTaskCompleted" => Self::Execution(1),
            "QueryWorkflow"
            | "DescribeWorkflowExecution"
            | "DescribeActivityExecution"
            | "DescribeTaskQueue"
            | "ListTaskQueuePartitions"
            | "DescribeSchedule"
            | "ListScheduleMatchingTimes"
            | "DescribeBatchOperation" => Self::Execution(3),
            _ if rpc.starts_with("Respond") => Self::Execution(3),
            _ if rpc.starts_with("Poll") => Self::Execution(4),
            "ResetStickyTaskQueue"
            | "ShutdownWorker"
            | "GetWorkflowExecutionHistoryReverse"
            | "RecordWorkerHeartbeat" => Self::Execution(4),
            // What changes something, and reading a history, which workers need for replays.
            _ => Self::Execution(2),
        }
    }
}

/// The rates of a node.
#[derive(Debug)]
pub(super) struct Rates {
    begun: Instant,
    node: Levels,
    namespaces: RwLock<HashMap<String, Arc<Buckets>>>,
}

#[derive(Debug, Default)]
struct Buckets {
    execution: Levels,
    visibility: Bucket,
    metadata: Bucket,
}

impl Default for Rates {
    fn default() -> Self {
        Self { begun: Instant::now(), node: Levels::default(), namespaces: RwLock::default() }
    }
}

impl Rates {
    /// # Errors
    /// RESOURCE_EXHAUSTED: the node takes no more at the moment.
    pub fn admit_to_node(&self, quota: Quota, settings: &EdgeSettings, nodes: impl FnOnce() -> usize) -> Result<()> {
        // Bursts of two seconds, as those of a namespace have by default.
        const BURST: f64 = 2.0;
        let Some(rate) = settings.rps.of_node(nodes) else { return Ok(()) };
        let level = match quota {
            Quota::Execution(level) => level,
            Quota::Visibility | Quota::Metadata => 1,
        };
        let admitted = self.node.take(level, self.begun.elapsed(), rate, BURST);
        if admitted { Ok(()) } else { Err(errors::service_rate_exceeded()) }
    }

    /// # Errors
    /// RESOURCE_EXHAUSTED: no more is taken of this namespace at the moment.
    pub fn admit(
        &self,
        namespace: &str,
        quota: Quota,
        settings: &EdgeSettings,
        nodes: impl FnOnce() -> usize,
    ) -> Result<()> {
        let (rate, burst) = match quota {
            Quota::Execution(_) => (settings.namespace_rps, settings.namespace_burst),
            Quota::Visibility => (settings.visibility_rps, settings.visibility_burst),
            Quota::Metadata => (settings.metadata_rps, settings.metadata_burst),
        };
        let Some(rate) = rate.of_node(nodes) else { return Ok(()) };
        let buckets = self.buckets(namespace);
        let now = self.begun.elapsed();
        let admitted = match quota {
            Quota::Execution(level) => buckets.execution.take(level, now, rate, burst),
            Quota::Visibility => buckets.visibility.take(now, rate, burst),
            Quota::Metadata => buckets.metadata.take(now, rate, burst),
        };
        if admitted { Ok(()) } else { Err(errors::namespace_rate_exceeded()) }
    }

    fn buckets(&self, namespace: &str) -> Arc<Buckets> {
        if let Some(known) = self.namespaces.read().get(namespace) {
            return Arc::clone(known);
        }
        let mut namespaces = self.namespaces.write();
        if namespaces.len() >= NAMESPACES_MAX {
            namespaces.clear();
        }
        Arc::clone(namespaces.entry(namespace.to_string()).or_default())
    }
}

#[derive(Debug, Default)]
struct Levels([Bucket; LEVELS]);

impl Levels {
    fn take(&self, level: usize, now: Duration, rate: f64, burst: f64) -> bool {
        let mut from = self.0.iter().skip(level);
        if !from.next().is_some_and(|bucket| bucket.take(now, rate, burst)) {
            return false;
        }
        // What the less urgent have left is less now; that they have nothing is no reason to refuse this one.
        for bucket in from {
            let _ = bucket.take(now, rate, burst);
        }
        true
    }
}

/// A token bucket as one number: when it will be full again, in nanoseconds since the rates began (the generic cell
/// rate algorithm). A change of the rate holds from the next request on.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one token if there is one; `burst` is what the bucket holds, in seconds of the rate, one token at least.
    fn take(&self, now: Duration, rate: f64, burst: f64) -> bool {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (now, token) = (nanos(now), (1e9 / rate) as u64);
        let holds = ((burst * 1e9) as u64).max(token);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now).saturating_add(token);
            (full_at - now <= holds).then_some(full_at)
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamic::Allowance;
    use crate::grpc::rpcs::RPCS;

    fn settings() -> EdgeSettings {
        EdgeSettings {
            namespace_rps: Allowance { node: 10.0, cluster: 0.0 },
            namespace_burst: 2.0,
            ..EdgeSettings::default()
        }
    }

    fn count(rates: &Rates, level: usize, settings: &EdgeSettings) -> usize {
        (0..1_000).filter(|_| rates.admit("n", Quota::Execution(level), settings, || 3).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_after_its_burst() {
        let (rates, settings) = (Rates::default(), settings());
        assert_eq!(count(&rates, 1, &settings), 20);
        let refused = rates.admit("n", Quota::Execution(1), &settings, || 3).expect_err("none is left");
        assert_eq!(refused, errors::namespace_rate_exceeded());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(count(&rates, 1, &settings), 5);
        assert!(rates.admit("other", Quota::Execution(1), &settings, || 3).is_ok());
        assert!(rates.admit("n", Quota::Visibility, &settings, || 3).is_ok(), "it has a limit of its own");
        // Another rate holds at once.
        let more = EdgeSettings { namespace_rps: Allowance { node: 1_000.0, cluster: 0.0 }, ..settings };
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(count(&rates, 1, &more) >= 990);
        assert_eq!(count(&rates, 1, &EdgeSettings::default()), 1_000, "no limit by default");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_is_refused_first() {
        let (rates, settings) = (Rates::default(), settings());
        assert_eq!(count(&rates, 4, &settings), 20);
        assert_eq!(count(&rates, 1, &settings), 20, "polls take nothing from completions");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(count(&rates, 1, &settings), 10);
        assert_eq!(count(&rates, 4, &settings), 0, "completions take from polls");
    }

    #[tokio::test(start_paused = true)]
    async fn each_node_has_its_share_of_what_the_cluster_takes() {
        let rates = Rates::default();
        let of_cluster = EdgeSettings { namespace_rps: Allowance { node: 1_000.0, cluster: 30.0 }, ..settings() };
        assert_eq!(count(&rates, 1, &of_cluster), 20, "of 30 a second a third, two seconds' worth at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_has_a_rate_for_all_namespaces() {
        let settings = EdgeSettings { rps: Allowance { node: 5.0, cluster: 0.0 }, ..EdgeSettings::default() };
        let rates = Rates::default();
        let admitted = (0..100).filter(|_| rates.admit_to_node(Quota::Execution(1), &settings, || 3).is_ok()).count();
        assert_eq!(admitted, 10);
        assert_eq!(rates.admit_to_node(Quota::Visibility, &settings, || 3), Err(errors::service_rate_exceeded()));
        assert_eq!(rates.admit_to_node(Quota::Execution(0), &settings, || 3), Ok(()));
    }

    #[test]
    fn urgency_is_as_in_the_servers_table() {
        let of = |name| Quota::of(name);
        assert_eq!(of("RespondWorkflowTaskCompleted"), Quota::Execution(1));
        assert_eq!(of("RespondActivityTaskCanceledById"), Quota::Execution(3));
        assert_eq!(of("PollWorkflowTaskQueue"), Quota::Execution(4));
        assert_eq!(of("GetWorkflowExecutionHistory"), Quota::Execution(2));
        assert_eq!(of("ListOpenWorkflowExecutions"), Quota::Visibility);
        assert_eq!(of("CountActivityExecutions"), Quota::Visibility);
        assert!(RPCS.iter().all(|rpc| !matches!(of(rpc.name), Quota::Execution(level) if level >= LEVELS)));
    }
}
