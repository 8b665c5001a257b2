//! Clusters of real processes, real SDK workers, and the faults that they have to survive.
//!
//! ```text
//! cluster.rs  a cluster: its nodes, its status, conditions to wait for       node.rs     one process, and where it listens
//! wait.rs     waiting for conditions, with a bound                           network.rs  nodes in network namespaces, to cut
//! api.rs      the API without an SDK: histories as bytes, single calls       worker.rs   SDK workers and clients
//! load.rs     work under way, and the record of what was acknowledged        probe.rs    how long shards do not answer
//! relay.rs    requests that come twice, or late                          skew.rs     wall clocks of nodes that are off
//! limits.rs   processor time and disks that are short                    work/       workflows and activities
//! ```
//!
//! # Contract
//! Nothing sleeps in order to wait for something: it waits for the condition, with a bound. A cluster that is
//! dropped takes its processes with it, and its directory too unless the test has failed.
//!
//! # Used by
//! The tests beside it: `cluster`, `sdk`, `faults`.

#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

pub mod api;
pub mod cluster;
pub mod limits;
pub mod load;
pub mod network;
pub mod node;
pub mod probe;
pub mod relay;
pub mod sim;
pub mod skew;
pub mod wait;
pub mod work;
pub mod worker;

pub use cluster::Cluster;
pub use node::Node;
pub use wait::{until, within};
