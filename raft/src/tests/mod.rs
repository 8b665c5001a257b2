//! Tests of whole groups: real cores over model disks, a model network and simulated time.

mod cluster;
mod conformance;
mod crashes;
mod elections;
mod epochs;
mod faults;
mod members;
mod mutated;
mod network;
mod purging;
mod snapshots;

pub(crate) use cluster::{Cluster, Driver};
