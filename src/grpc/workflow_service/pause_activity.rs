//! PauseActivity: a pending activity waits until an operator lets it go on.

use bristlecone_proto::chain::{input, reply};
use bristlecone_proto::temporal::api::workflowservice::v1::{PauseActivityRequest, PauseActivityResponse};

use crate::grpc::call::Call;
use crate::grpc::namespaces::chain_id;
use crate::grpc::{Edge, Result, check, errors};

pub async fn handle(edge: Edge, call: Call, request: PauseActivityRequest) -> Result<PauseActivityResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let execution = check::execution(request.execution.as_ref(), &edge.cluster().settings().core)?;
    let chain = chain_id(&namespace.record, &execution.workflow_id);
    match edge.cluster().call(&chain, input::Kind::PauseActivity(request), call.answer_by()).await? {
        reply::Kind::Done(_) => Ok(PauseActivityResponse {}),
        _ => Err(errors::unexpected_reply()),
    }
}
