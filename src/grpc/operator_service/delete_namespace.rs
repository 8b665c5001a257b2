//! DeleteNamespace: it is marked as deleted and renamed, so that its name is free at once.

use bristlecone_machine::reply;
use bristlecone_machine::stamp::timestamp;
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::node::{RenameNamespace, meta_call};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::enums::v1::NamespaceState;
use bristlecone_proto::temporal::api::operatorservice::v1::{DeleteNamespaceRequest, DeleteNamespaceResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

/// The namespace of the cluster's own workers.
const SYSTEM_NAMESPACE: &str = "temporal-system";

pub async fn handle(edge: Edge, call: Call, request: DeleteNamespaceRequest) -> Result<DeleteNamespaceResponse> {
    let mut namespace = match (request.namespace.as_str(), request.namespace_id.as_str()) {
        ("", "") => return Err(reply::invalid_argument("namespace or namespace ID is required")),
        (name, "") => edge.any_namespace(name).map_err(|error| unknown(error, name))?.record.clone(),
        ("", id) => edge.namespace_by_id(id).map_err(|error| unknown(error, id))?.record.clone(),
        _ => return Err(reply::invalid_argument("only one of namespace or namespace ID must be set")),
    };
    if namespace.name == SYSTEM_NAMESPACE {
        return Err(reply::failed_precondition("unable to delete system namespace"));
    }
    let cluster = edge.cluster();
    if namespace.state() != NamespaceState::Deleted {
        namespace.set_state(NamespaceState::Deleted);
        namespace.deleted = Some(timestamp(cluster.wall()));
        namespace.delete_delay = request.namespace_delete_delay;
        cluster.meta_call(meta_call::Kind::PutNamespace(namespace.clone()), call.answer_by()).await?;
    }
    let meta = cluster.meta();
    let new_name = deleted_name(&namespace, |name| meta.namespace(name).is_some())?;
    if new_name != namespace.name {
        let rename = RenameNamespace { id: namespace.id, new_name: new_name.clone() };
        cluster.meta_call(meta_call::Kind::RenameNamespace(rename), call.answer_by()).await?;
    }
    Ok(DeleteNamespaceResponse { deleted_namespace: new_name })
}

/// Whoever wants to delete what is not there made a mistake.
fn unknown(error: Rejection, name: &str) -> Rejection {
    if error.code == reply::code::NOT_FOUND {
        return reply::invalid_argument(format!("namespace {name} is not found"));
    }
    error
}

/// The name with a part of the id that makes it unique; a name that has one already stays.
fn deleted_name(namespace: &record::Namespace, is_taken: impl Fn(&str) -> bool) -> Result<String> {
    const SHORTEST: usize = 5;
    for length in SHORTEST..=namespace.id.len() {
        let suffix = format!("-deleted-{}", namespace.id.get(..length).unwrap_or_default());
        if namespace.name.ends_with(&suffix) {
            return Ok(namespace.name.clone());
        }
        let name = format!("{}{suffix}", namespace.name);
        if !is_taken(&name) {
            return Ok(name);
        }
    }
    let message = format!("unable to generate new name for deleted namespace {}", namespace.name);
    Err(reply::plain(reply::code::INTERNAL, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_namespace_gets_a_name_of_its_own() {
        let id = "32049b68-7872-4094-8e63-d0dd59896a83".to_owned();
        let mut namespace = record::Namespace { id, name: "shop".into(), ..record::Namespace::default() };
        let free = deleted_name(&namespace, |_| false).expect("a name");
        assert_eq!(free, "shop-deleted-32049");
        let longer = deleted_name(&namespace, |name| name == free).expect("a name");
        assert_eq!(longer, "shop-deleted-32049b");
        namespace.name = longer;
        assert_eq!(deleted_name(&namespace, |_| false), Ok("shop-deleted-32049b-deleted-32049".to_owned()));
        namespace.name = free.clone();
        assert_eq!(deleted_name(&namespace, |_| false), Ok(free));
    }
}
