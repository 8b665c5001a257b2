//! RemoveSearchAttributes: stored values stay, and nothing finds them any more. Unknown names are ignored.

use bristlecone_machine::reply;
use bristlecone_proto::node::meta_call;
use bristlecone_proto::temporal::api::operatorservice::v1::{
    RemoveSearchAttributesRequest, RemoveSearchAttributesResponse,
};

use crate::filter;
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: RemoveSearchAttributesRequest,
) -> Result<RemoveSearchAttributesResponse> {
    if request.search_attributes.is_empty() {
        return Err(reply::invalid_argument("SearchAttributes are not set on request."));
    }
    let mut namespace = edge.namespace(&request.namespace)?.record.clone();
    let before = namespace.search_attributes.len();
    for name in &request.search_attributes {
        if namespace.search_attributes.remove(name).is_none() && filter::type_of(name).is_some() {
            let message = format!("Unable to remove non-custom search attributes: {name}.");
            return Err(reply::invalid_argument(message));
        }
    }
    if namespace.search_attributes.len() < before {
        edge.cluster().meta_call(meta_call::Kind::PutNamespace(namespace), call.answer_by()).await?;
    }
    Ok(RemoveSearchAttributesResponse {})
}
