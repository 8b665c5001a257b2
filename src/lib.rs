//! Bristlecone: a durable-workflow server that speaks Temporal's public gRPC API and needs no database.
//!
//! This crate is what is *served*: the API's edge, shards, task queues, the cluster's life. What is
//! decided stands in `bristlecone-machine`, what is agreed in `bristlecone-raft`, what is kept in
//! `bristlecone-storage`, what is said in `bristlecone-proto`.

#![forbid(unsafe_code)]

pub mod batch;
pub mod bench;
pub mod cli;
pub mod cluster;
pub mod dynamic;
pub mod filter;
pub mod grpc;
pub mod health;
pub mod meta;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod process;
pub mod queue;
pub mod shard;
pub mod token;
