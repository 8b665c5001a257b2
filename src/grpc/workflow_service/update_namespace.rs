//! UpdateNamespace: what the request names is changed, the rest stays.

use bristlecone_machine::reply;
use bristlecone_machine::stamp::timestamp;
use bristlecone_proto::node::meta_call;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::NamespaceState as State;
use bristlecone_proto::temporal::api::namespace::v1::{NamespaceConfig, UpdateNamespaceInfo};
use bristlecone_proto::temporal::api::workflowservice::v1::{UpdateNamespaceRequest, UpdateNamespaceResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors, namespaces};

pub async fn handle(edge: Edge, call: Call, request: UpdateNamespaceRequest) -> Result<UpdateNamespaceResponse> {
    let before = &edge.any_namespace(&request.namespace)?.record;
    check_replication(&edge, &request)?;
    let mut namespace = before.clone();
    if let Some(info) = request.update_info {
        update_info(&mut namespace, info)?;
    }
    if let Some(config) = request.config {
        update_config(&mut namespace, config, &edge)?;
    }
    let bad_binary = &request.delete_bad_binary;
    if !bad_binary.is_empty() && namespace.bad_binaries.remove(bad_binary).is_none() {
        return Err(reply::invalid_argument(format!("Bad binary checksum {bad_binary} doesn't exists.")));
    }
    if namespace != *before {
        let call = edge.cluster().meta_call(meta_call::Kind::PutNamespace(namespace), call.answer_by());
        namespace = call.await?.namespace.ok_or_else(errors::unexpected_reply)?;
    }
    let described = edge.describe_namespace(&namespace);
    Ok(UpdateNamespaceResponse {
        namespace_info: described.namespace_info,
        config: described.config,
        replication_config: described.replication_config,
        failover_version: described.failover_version,
        is_global_namespace: described.is_global_namespace,
    })
}

/// A cluster stands alone: it is the only one that a namespace can be active in.
fn check_replication(edge: &Edge, request: &UpdateNamespaceRequest) -> Result<()> {
    if request.promote_namespace {
        let message = "global namespace is not enabled on this cluster, cannot update global namespace or promote \
                       local namespace: ";
        return Err(reply::invalid_argument(format!("{message}{}", request.namespace)));
    }
    let Some(wanted) = &request.replication_config else { return Ok(()) };
    let here = &edge.cluster().meta().cluster.name;
    let elsewhere = |name: &String| !name.is_empty() && name != here;
    if elsewhere(&wanted.active_cluster_name) || wanted.clusters.iter().any(|c| elsewhere(&c.cluster_name)) {
        return Err(reply::invalid_argument("Invalid local namespace clusters"));
    }
    Ok(())
}

fn update_info(namespace: &mut record::Namespace, info: UpdateNamespaceInfo) -> Result<()> {
    let wanted = info.state();
    if !info.description.is_empty() {
        namespace.description = info.description;
    }
    if !info.owner_email.is_empty() {
        namespace.owner_email = info.owner_email;
    }
    namespace.data.extend(info.data);
    if wanted == State::Unspecified || wanted == namespace.state() {
        return Ok(());
    }
    match (namespace.state(), wanted) {
        (State::Registered, State::Deprecated | State::Deleted) | (State::Deprecated, State::Deleted) => {
            namespace.set_state(wanted);
            Ok(())
        }
        _ => Err(reply::invalid_argument("Invalid namespace state update.")),
    }
}

fn update_config(namespace: &mut record::Namespace, config: NamespaceConfig, edge: &Edge) -> Result<()> {
    let settings = edge.cluster().settings_of(&namespace.name);
    if config.workflow_execution_retention_ttl.is_some() {
        namespace.retention = Some(namespaces::check_retention(config.workflow_execution_retention_ttl, &settings)?);
    }
    for (checksum, binary) in config.bad_binaries.unwrap_or_default().binaries {
        let created = Some(timestamp(edge.cluster().wall()));
        let binary = record::BadBinary { reason: binary.reason, operator: binary.operator, created };
        namespace.bad_binaries.insert(checksum, binary);
    }
    let most = settings.edge.bad_binaries_max;
    if namespace.bad_binaries.len() > most {
        let message = format!("Total resetBinaries cannot exceed the max limit: {most}");
        return Err(reply::invalid_argument(message));
    }
    Ok(())
}
