//! DescribeNamespace, by name or by id. Workers choose features by the answer.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::workflowservice::v1::{DescribeNamespaceRequest, DescribeNamespaceResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};

pub async fn handle(edge: Edge, _: Call, request: DescribeNamespaceRequest) -> Result<DescribeNamespaceResponse> {
    let namespace = match (request.namespace.as_str(), request.id.as_str()) {
        ("", "") => return Err(errors::namespace_not_set()),
        (name, "") => edge.any_namespace(name)?,
        ("", id) => edge.namespace_by_id(id)?,
        _ => return Err(reply::invalid_argument("Only one of namespace name or Id should be set on request.")),
    };
    Ok(edge.describe_namespace(&namespace.record))
}
