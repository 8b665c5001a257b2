//! GetSearchAttributes (deprecated): the server's own attributes. Those of a namespace are listed by the
//! operator's service.

use bristlecone_proto::temporal::api::workflowservice::v1::{GetSearchAttributesRequest, GetSearchAttributesResponse};

use crate::filter::{PREDEFINED, SYSTEM};
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(_: Edge, _: Call, _: GetSearchAttributesRequest) -> Result<GetSearchAttributesResponse> {
    let keys = SYSTEM.iter().chain(&PREDEFINED).map(|(name, kind)| ((*name).to_owned(), (*kind).into())).collect();
    Ok(GetSearchAttributesResponse { keys })
}
