//! ListNamespaces, in the order of their names.

use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::workflowservice::v1::{ListNamespacesRequest, ListNamespacesResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, errors};
use crate::token::{BadToken, NamePageToken};

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1_000;

pub async fn handle(edge: Edge, _: Call, request: ListNamespacesRequest) -> Result<ListNamespacesResponse> {
    let tokens = edge.cluster().tokens();
    let after = if request.next_page_token.is_empty() {
        NamePageToken::default()
    } else {
        tokens.open(&request.next_page_token).map_err(|BadToken| errors::bad_list_token())?
    };
    let size = usize::try_from(request.page_size).ok().filter(|size| *size > 0).unwrap_or(PAGE_SIZE_DEFAULT);
    let size = size.min(PAGE_SIZE_MAX);
    let with_deleted = request.namespace_filter.is_some_and(|filter| filter.include_deleted);
    let meta = edge.cluster().meta();
    let mut rest = meta
        .namespaces()
        .filter(|namespace| namespace.record.name > after.after)
        .filter(|namespace| with_deleted || namespace.record.state() != NamespaceState::Deleted);
    let page: Vec<_> = rest.by_ref().take(size).collect();
    let next_page_token = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => tokens.seal(&NamePageToken { after: last.record.name.clone() }),
        _ => Default::default(),
    };
    let namespaces = page.into_iter().map(|namespace| edge.describe_namespace(&namespace.record)).collect();
    Ok(ListNamespacesResponse { namespaces, next_page_token })
}
