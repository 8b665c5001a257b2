//! DeprecateNamespace (deprecated): no new workflows start, those that exist go on.

use bristlecone_proto::node::meta_call;
use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::workflowservice::v1::{DeprecateNamespaceRequest, DeprecateNamespaceResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, call: Call, request: DeprecateNamespaceRequest) -> Result<DeprecateNamespaceResponse> {
    let mut namespace = edge.namespace(&request.namespace)?.record.clone();
    if namespace.state() != NamespaceState::Deprecated {
        namespace.set_state(NamespaceState::Deprecated);
        edge.cluster().meta_call(meta_call::Kind::PutNamespace(namespace), call.answer_by()).await?;
    }
    Ok(DeprecateNamespaceResponse {})
}
