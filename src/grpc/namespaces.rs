//! Finding the namespace that a request is about, and telling clients about it.

use std::sync::Arc;

use bristlecone_machine::stamp::duration_nanos;
use bristlecone_machine::{Limits, reply, validate};
use bristlecone_proto::chain::{ChainId, Rejection};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{NamespaceState, ReplicationState};
use bristlecone_proto::temporal::api::namespace::v1::{
    BadBinaries, BadBinaryInfo, NamespaceConfig, NamespaceInfo, namespace_info,
};
use bristlecone_proto::temporal::api::replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig};
use bristlecone_proto::temporal::api::workflowservice::v1::DescribeNamespaceResponse;
use prost_types::Duration;

use super::{Edge, Result, errors};
use crate::dynamic::Settings;
use crate::meta::NamespaceEntry;

/// States in which new workflows may be started.
const OPEN: [NamespaceState; 1] = [NamespaceState::Registered];
/// States in which anything else may be done.
const USABLE: [NamespaceState; 2] = [NamespaceState::Registered, NamespaceState::Deprecated];

impl Edge {
    /// The namespace of this name, whose workflows may be worked with.
    pub(crate) fn namespace(&self, name: &str) -> Result<Arc<NamespaceEntry>> {
        in_state(self.any_namespace(name)?, &USABLE)
    }

    /// The namespace of this name, in which workflows may be started now.
    pub(super) fn open_namespace(&self, name: &str) -> Result<Arc<NamespaceEntry>> {
        let namespace = in_state(self.any_namespace(name)?, &OPEN)?;
        let health = &self.cluster().parts().health;
        if health.refuses_starts() { Err(errors::overloaded(&health.shedding())) } else { Ok(namespace) }
    }

    /// The namespace of this name, whatever its state.
    pub(super) fn any_namespace(&self, name: &str) -> Result<Arc<NamespaceEntry>> {
        check_name(name, &self.cluster().settings().core)?;
        let meta = self.cluster().meta();
        let namespace = meta.namespace(name).cloned().ok_or_else(|| self.unknown_namespace(name))?;
        self.admit_to(name)?;
        Ok(namespace)
    }

    /// The namespace with this id, whatever its state.
    pub(super) fn namespace_by_id(&self, id: &str) -> Result<Arc<NamespaceEntry>> {
        let meta = self.cluster().meta();
        meta.namespace_by_id(id).cloned().ok_or_else(|| self.unknown_namespace(id))
    }

    /// A node that has just started may not have heard of it yet.
    fn unknown_namespace(&self, name: &str) -> Rejection {
        match self.cluster().parts().health.is_caught_up() {
            true => errors::namespace_not_found(name),
            false => errors::starting(),
        }
    }

    /// The namespace that a task token belongs to. A request that names a namespace must name the same.
    pub(super) fn token_namespace(&self, namespace_id: &str, name: &str) -> Result<Arc<NamespaceEntry>> {
        if namespace_id.is_empty() {
            return Err(errors::namespace_not_set());
        }
        let of_token = self.namespace_by_id(namespace_id)?;
        let meta = self.cluster().meta();
        if !name.is_empty() && meta.namespace(name).is_some_and(|named| named.record.id != of_token.record.id) {
            return Err(reply::invalid_argument("Operation requested with a token from a different namespace."));
        }
        self.admit_to(&of_token.record.name)?;
        in_state(of_token, &USABLE)
    }

    /// What clients learn of a namespace; workers choose features by it.
    pub(super) fn describe_namespace(&self, namespace: &record::Namespace) -> DescribeNamespaceResponse {
        DescribeNamespaceResponse {
            namespace_info: Some(info(namespace, &self.cluster().settings_of(&namespace.name))),
            config: Some(config(namespace)),
            replication_config: Some(replication(&self.cluster().meta().cluster.name)),
            is_global_namespace: namespace.is_global,
            ..DescribeNamespaceResponse::default()
        }
    }
}

/// The chain of a workflow id.
pub(crate) fn chain_id(namespace: &record::Namespace, workflow_id: &str) -> ChainId {
    ChainId {
        namespace_id: namespace.id.clone(),
        workflow_id: workflow_id.to_owned(),
        namespace: namespace.name.clone(),
    }
}

pub(super) fn check_name(name: &str, limits: &Limits) -> Result<()> {
    if name.is_empty() {
        return Err(errors::namespace_not_set());
    }
    if name.len() > limits.id_bytes_max {
        return Err(reply::invalid_argument("Namespace length exceeds limit."));
    }
    Ok(())
}

/// How long closed workflows are kept: at least what is set, cut to a hundred years.
pub(super) fn check_retention(retention: Option<Duration>, settings: &Settings) -> Result<Duration> {
    let retention = validate::duration(retention.as_ref()).ok().flatten();
    retention
        .filter(|retention| duration_nanos(Some(retention)) / 1_000_000 >= settings.edge.retention_ms_min)
        .ok_or_else(|| reply::invalid_argument("A valid retention period is not set on request."))
}

pub(super) fn in_state(namespace: Arc<NamespaceEntry>, allowed: &[NamespaceState]) -> Result<Arc<NamespaceEntry>> {
    if allowed.contains(&namespace.record.state()) {
        Ok(namespace)
    } else {
        Err(errors::namespace_in_wrong_state(&namespace.record, allowed))
    }
}

fn info(namespace: &record::Namespace, settings: &Settings) -> NamespaceInfo {
    let (limits, edge) = (&settings.core, &settings.edge);
    let bytes = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    NamespaceInfo {
        name: namespace.name.clone(),
        state: namespace.state,
        description: namespace.description.clone(),
        owner_email: namespace.owner_email.clone(),
        data: namespace.data.clone(),
        id: namespace.id.clone(),
        capabilities: Some(namespace_info::Capabilities {
            eager_workflow_start: edge.eager_start,
            sync_update: edge.updates,
            async_update: edge.updates,
            worker_heartbeats: true,
            reported_problems_search_attribute: true,
            poller_autoscaling: true,
            workflow_pause: limits.pause_enabled,
            standalone_activities: edge.standalone_activities,
            standalone_activity_start_delay: true,
            standalone_activity_operator_commands: true,
            worker_poll_complete_on_shutdown: edge.polls_end_at_shutdown,
            ..namespace_info::Capabilities::default()
        }),
        limits: Some(namespace_info::Limits {
            blob_size_limit_error: bytes(limits.blob_bytes_max),
            memo_size_limit_error: bytes(limits.memo_bytes_max),
            ..namespace_info::Limits::default()
        }),
        supports_schedules: edge.schedules,
    }
}

pub(super) fn config(namespace: &record::Namespace) -> NamespaceConfig {
    let bad_binaries = namespace.bad_binaries.iter().map(|(checksum, binary)| {
        let info = BadBinaryInfo {
            reason: binary.reason.clone(),
            operator: binary.operator.clone(),
            create_time: binary.created,
        };
        (checksum.clone(), info)
    });
    NamespaceConfig {
        workflow_execution_retention_ttl: namespace.retention,
        bad_binaries: Some(BadBinaries { binaries: bad_binaries.collect() }),
        history_archival_state: namespace.history_archival_state,
        history_archival_uri: namespace.history_archival_uri.clone(),
        visibility_archival_state: namespace.visibility_archival_state,
        visibility_archival_uri: namespace.visibility_archival_uri.clone(),
        // A search attribute is stored under its own name.
        custom_search_attribute_aliases: namespace.search_attributes.keys().map(|n| (n.clone(), n.clone())).collect(),
    }
}

fn replication(cluster: &str) -> NamespaceReplicationConfig {
    NamespaceReplicationConfig {
        active_cluster_name: cluster.to_owned(),
        clusters: vec![ClusterReplicationConfig {
            cluster_name: cluster.to_owned(),
            ..ClusterReplicationConfig::default()
        }],
        state: ReplicationState::Normal.into(),
    }
}
