//! ListWorkers: those that sent a heartbeat lately, by instance key.

use bristlecone_machine::reply;
use bristlecone_proto::temporal::api::worker::v1::WorkerInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{ListWorkersRequest, ListWorkersResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, workers};
use crate::token::{BadToken, NamePageToken};

pub async fn handle(edge: Edge, _: Call, request: ListWorkersRequest) -> Result<ListWorkersResponse> {
    let namespace = edge.namespace(&request.namespace)?;
    let tokens = edge.cluster().tokens();
    let after = if request.next_page_token.is_empty() {
        None
    } else {
        let opened = tokens.open(&request.next_page_token);
        let token: NamePageToken = opened.map_err(|BadToken| reply::invalid_argument("invalid next_page_token"))?;
        Some(token.after)
    };
    let all = edge.cluster().worker_heartbeats(&namespace.record.id).await;
    let mut matching = workers::matching(&request.query, all)?;
    matching.sort_by(|a, b| a.worker_instance_key.cmp(&b.worker_instance_key));
    if let Some(after) = after {
        matching.retain(|worker| worker.worker_instance_key > after);
    }
    // 0 asks for all of them.
    let size = usize::try_from(request.page_size).ok().filter(|size| *size > 0).unwrap_or(usize::MAX);
    let has_more = matching.len() > size;
    matching.truncate(size);
    let next_page_token = match matching.last() {
        Some(last) if has_more => tokens.seal(&NamePageToken { after: last.worker_instance_key.clone() }),
        _ => Default::default(),
    };
    let summaries = matching.iter().map(workers::summary).collect();
    let infos = matching.into_iter().map(|worker| WorkerInfo { worker_heartbeat: Some(worker) }).collect();
    Ok(ListWorkersResponse { workers_info: infos, workers: summaries, next_page_token })
}
