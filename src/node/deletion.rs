//! Removes what deleted namespaces leave.
//!
//! # Contract
//! The leader of the metadata asks all shards what they hold of a deleted namespace and has it removed, until
//! nothing is left; then the namespace itself is forgotten. Nothing is remembered from one pass to the next
//! that could not be found out again, so a new leader goes on where the former one was.
//!
//! | order | why |
//! | --- | --- |
//! | runs, open ones are terminated first | workflows of other namespaces hear that their children ended |
//! | chains without runs, after a while | their last messages have been delivered by then |
//! | the namespace | its id is needed until the last row is gone |

use std::collections::BTreeMap;
use std::time::Duration;

use bristlecone_machine::stamp::{duration_nanos, nanos};
use bristlecone_proto::chain::{ChainId, Raze, input};
use bristlecone_proto::node::meta_call;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::workflowservice::v1::DeleteWorkflowExecutionRequest;
use futures::stream::{self, StreamExt};
use tokio::time::{Instant, interval};

use crate::cluster::{Cluster, Result};

/// Pause between two passes.
const PASS: Duration = Duration::from_secs(2);
/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(10);
/// Runs that one pass takes from each shard, and how many are removed at once.
const PAGE: u32 = 500;
const AT_ONCE: usize = 16;
/// How long chains without runs may still exchange messages.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Never ends.
pub async fn delete_namespaces(cluster: Cluster) {
    let mut every = interval(PASS);
    // Since when there are no runs, by namespace id.
    let mut without_runs: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        every.tick().await;
        if !cluster.parts().meta.group().leadership().borrow().is_local {
            without_runs.clear();
            continue;
        }
        let meta = cluster.meta();
        let deleted: Vec<record::Namespace> = meta
            .namespaces()
            .filter(|entry| entry.record.state() == NamespaceState::Deleted)
            .map(|entry| entry.record.clone())
            .collect();
        without_runs.retain(|id, _| deleted.iter().any(|namespace| namespace.id == *id));
        for namespace in deleted {
            while let Ok(true) = delete_some(&cluster, &namespace, &mut without_runs).await {}
        }
    }
}

/// One page of what is left; says whether there may be more that can go at once.
async fn delete_some(
    cluster: &Cluster,
    namespace: &record::Namespace,
    without_runs: &mut BTreeMap<String, Instant>,
) -> Result<bool> {
    let left = cluster.remains(&namespace.id, PAGE, Instant::now() + CALL_TIME).await?;
    let found: Vec<WorkflowExecution> = left
        .rows
        .into_iter()
        .filter_map(|row| row.visibility)
        .map(|run| WorkflowExecution { workflow_id: run.workflow_id, run_id: run.run_id })
        .collect();
    let (runs, chains): (Vec<_>, Vec<_>) = found.into_iter().partition(|execution| !execution.run_id.is_empty());
    if !runs.is_empty() {
        without_runs.remove(&namespace.id);
        return Ok(remove(cluster, namespace, runs).await > 0);
    }
    let since = *without_runs.entry(namespace.id.clone()).or_insert_with(Instant::now);
    if left.count > 0 {
        if since.elapsed() > LAST_WORDS {
            return Ok(remove(cluster, namespace, chains).await > 0);
        }
        return Ok(false);
    }
    let known_until = namespace.deleted.as_ref().map_or(0, nanos) + duration_nanos(namespace.delete_delay.as_ref());
    if cluster.wall() >= known_until {
        let remove = meta_call::Kind::RemoveNamespace(namespace.id.clone());
        cluster.meta_call(remove, Instant::now() + CALL_TIME).await?;
        tracing::info!(namespace = namespace.name, "nothing is left of a deleted namespace");
    }
    Ok(false)
}

/// Removes runs, or all that is left of chains; says of how many.
async fn remove(cluster: &Cluster, namespace: &record::Namespace, found: Vec<WorkflowExecution>) -> usize {
    let removals = found.into_iter().map(|execution| async move {
        let chain = ChainId {
            namespace_id: namespace.id.clone(),
            workflow_id: execution.workflow_id.clone(),
            namespace: namespace.name.clone(),
        };
        let removal = if execution.run_id.is_empty() {
            input::Kind::Raze(Raze {})
        } else {
            let namespace = namespace.name.clone();
            input::Kind::Delete(DeleteWorkflowExecutionRequest { namespace, workflow_execution: Some(execution) })
        };
        let removed = cluster.call(&chain, removal, Instant::now() + CALL_TIME).await;
        if let Err(rejection) = &removed {
            tracing::info!(chain = chain.workflow_id, reason = rejection.message, "not removed yet");
        }
        removed.is_ok()
    });
    stream::iter(removals).buffer_unordered(AT_ONCE).filter(|removed| std::future::ready(*removed)).count().await
}
