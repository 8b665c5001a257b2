//! AddSearchAttributes: usable on every live node when this is answered. One that exists is left alone.

use std::collections::BTreeMap;

use bristlecone_machine::reply;
use bristlecone_proto::node::meta_call;
use bristlecone_proto::temporal::api::enums::v1::IndexedValueType as Kind;
use bristlecone_proto::temporal::api::operatorservice::v1::{AddSearchAttributesRequest, AddSearchAttributesResponse};

use crate::filter;
use crate::grpc::call::Call;
use crate::grpc::{Edge, Result};

pub async fn handle(
    edge: Edge,
    call: Call,
    request: AddSearchAttributesRequest,
) -> Result<AddSearchAttributesResponse> {
    let mut namespace = edge.namespace(&request.namespace)?.record.clone();
    if add(&mut namespace.search_attributes, request.search_attributes)? {
        edge.cluster().meta_call(meta_call::Kind::PutNamespace(namespace), call.answer_by()).await?;
    }
    Ok(AddSearchAttributesResponse {})
}

/// Whether anything was added.
fn add(existing: &mut BTreeMap<String, i32>, new: BTreeMap<String, i32>) -> Result<bool> {
    if new.is_empty() {
        return Err(reply::invalid_argument("SearchAttributes are not set on request."));
    }
    for (name, number) in &new {
        if filter::is_reserved(name) {
            return Err(reply::invalid_argument(format!("Search attribute {name} is reserved by system.")));
        }
        if Kind::try_from(*number).is_err() {
            return Err(reply::invalid_argument(format!("Unknown search attribute type: {number}.")));
        }
    }
    let before = existing.len();
    for (name, number) in new {
        if existing.contains_key(&name) {
            continue;
        }
        let kind = Kind::try_from(number).unwrap_or_default();
        let (used, limit) = (existing.values().filter(|kind| **kind == number).count(), most_of(kind));
        if used >= limit {
            return Err(reply::invalid_argument(format!(
                "Unable to create search attributes: cannot have more than {limit} search attribute of type {kind:?}."
            )));
        }
        existing.insert(name, number);
    }
    Ok(existing.len() > before)
}

/// Attributes of one type that a namespace may have.
fn most_of(kind: Kind) -> usize {
    match kind {
        Kind::Unspecified => 0,
        Kind::Keyword => 10,
        Kind::Text | Kind::Int | Kind::Double | Kind::Bool | Kind::Datetime | Kind::KeywordList => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str], kind: Kind) -> BTreeMap<String, i32> {
        names.iter().map(|name| ((*name).to_owned(), kind.into())).collect()
    }

    #[test]
    fn attributes_are_added_once() {
        let mut existing = named(&["A"], Kind::Int);
        assert_eq!(add(&mut existing, named(&["A", "B"], Kind::Keyword)), Ok(true));
        assert_eq!(existing.get("A"), Some(&Kind::Int.into()));
        assert_eq!(add(&mut existing, named(&["B"], Kind::Text)), Ok(false));
    }

    #[test]
    fn wrong_ones_are_refused() {
        let error = |new| add(&mut named(&["A", "B", "C"], Kind::Bool), new).map_err(|r| r.message);
        assert_eq!(error(BTreeMap::new()), Err("SearchAttributes are not set on request.".into()));
        for reserved in ["WorkflowId", "BuildIds", "NamespaceId", "TemporalAnything"] {
            let message = format!("Search attribute {reserved} is reserved by system.");
            assert_eq!(error(named(&[reserved], Kind::Int)), Err(message));
        }
        assert_eq!(error([("X".to_owned(), 99)].into()), Err("Unknown search attribute type: 99.".into()));
        let full = "Unable to create search attributes: cannot have more than 3 search attribute of type Bool.";
        assert_eq!(error(named(&["D"], Kind::Bool)), Err(full.into()));
        assert_eq!(error(named(&["C"], Kind::Bool)), Ok(false));
    }
}
