//! temporal.api.operatorservice.v1.OperatorService: one file per RPC.

pub mod add_search_attributes;
pub mod delete_namespace;
pub mod list_clusters;
pub mod list_search_attributes;
pub mod remove_search_attributes;
