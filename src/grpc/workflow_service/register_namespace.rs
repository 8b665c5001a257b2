//! RegisterNamespace: known on every live node when this is answered.

use bristlecone_machine::reply;
use bristlecone_machine::stamp::timestamp;
use bristlecone_proto::node::meta_call;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::{ArchivalState, NamespaceState};
use bristlecone_proto::temporal::api::workflowservice::v1::{RegisterNamespaceRequest, RegisterNamespaceResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors, namespaces};

pub async fn handle(edge: Edge, call: Call, request: RegisterNamespaceRequest) -> Result<RegisterNamespaceResponse> {
    namespaces::check_name(&request.namespace, &edge.cluster().settings().core)?;
    if request.is_global_namespace {
        return Err(reply::invalid_argument("Cannot register global namespace when not enabled"));
    }
    let retention =
        namespaces::check_retention(request.workflow_execution_retention_period, &edge.cluster().settings())?;
    if edge.cluster().meta().namespace(&request.namespace).is_some() {
        return Err(errors::namespace_already_exists(&request.namespace));
    }
    let namespace = record::Namespace {
        id: edge.cluster().new_id(),
        name: request.namespace,
        state: NamespaceState::Registered.into(),
        description: request.description,
        owner_email: request.owner_email,
        data: request.data,
        retention: Some(retention),
        created: Some(timestamp(edge.cluster().wall())),
        history_archival_state: ArchivalState::Disabled.into(),
        visibility_archival_state: ArchivalState::Disabled.into(),
        ..record::Namespace::default()
    };
    edge.cluster().meta_call(meta_call::Kind::PutNamespace(namespace), call.answer_by()).await?;
    Ok(RegisterNamespaceResponse {})
}
