//! ListSearchAttributes: the namespace's own, and the server's.

use bristlecone_proto::temporal::api::operatorservice::v1::{
    ListSearchAttributesRequest, ListSearchAttributesResponse,
};

use crate::filter::{PREDEFINED, SYSTEM};
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(edge: Edge, _: Call, request: ListSearchAttributesRequest) -> Result<ListSearchAttributesResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let own = SYSTEM.iter().chain(&PREDEFINED).map(|(name, kind)| ((*name).to_owned(), (*kind).into()));
    Ok(ListSearchAttributesResponse {
        custom_attributes: namespace.record.search_attributes.clone(),
        system_attributes: own.collect(),
        ..ListSearchAttributesResponse::default()
    })
}
