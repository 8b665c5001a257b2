//! What a node is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::dynamic::Settings;

/// Settings of one node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// `None`: everything in memory, lost at the end (development).
    pub data_dir: Option<PathBuf>,
    /// Name for people; unique in the cluster. Empty: `n` and the node id.
    pub node_name: String,
    /// Where the gRPC API listens.
    pub listen: SocketAddr,
    /// Where other nodes reach this one.
    pub internal_listen: SocketAddr,
    /// Addresses that others are told (host:port); empty: the ones listened on.
    pub advertise: String,
    pub internal_advertise: String,
    pub role: Role,
    /// Namespaces to create at the start when they don't exist (with a retention of one day).
    pub namespaces: Vec<String>,
    /// Search attributes of those namespaces: name to `IndexedValueType`.
    pub search_attributes: Vec<(String, i32)>,
    /// Prometheus metrics; `None`: not served.
    pub metrics_listen: Option<SocketAddr>,
    /// What is set at the start …
    pub settings: Settings,
    /// … and by this file, which is read again when it changes.
    pub dynamic_config: Option<PathBuf>,
    /// Bytes for RocksDB's block cache and memtables together.
    pub memory_budget: usize,
    /// How long a stop may take to hand leaderships over.
    pub drain_time: Duration,
}

/// How the node becomes part of a cluster. An initialised data directory is always just started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Start with what the data directory says.
    Restart,
    /// Found a new cluster with this node as its first member.
    Bootstrap { shards: u32, replication_factor: u32 },
    /// Join the cluster of which one of these nodes (internal addresses) is a member.
    Join { seeds: Vec<String> },
}

impl NodeConfig {
    /// A single node in memory, for development and tests; ports 0 are chosen by the system.
    pub fn development(listen: SocketAddr) -> Self {
        Self {
            data_dir: None,
            node_name: "dev".to_string(),
            listen,
            internal_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: String::new(),
            internal_advertise: String::new(),
            role: Role::Bootstrap { shards: 1, replication_factor: 1 },
            namespaces: vec!["default".to_string()],
            search_attributes: Vec::new(),
            metrics_listen: None,
            settings: Settings::default(),
            dynamic_config: None,
            memory_budget: 32 << 20,
            drain_time: Duration::from_secs(5),
        }
    }
}
