//! Between nodes: calls, notices and Raft messages on the one internal port.
//!
//! ```text
//! peers.rs      the node's way to its peers, by id             serve.rs   the accepting side
//! link.rs       one lane to one peer: queue, calls, dialling   hello.rs   the handshake, for both sides
//! outbox.rs     the queue in front of a connection             stream.rs  frames over a byte stream
//! lane.rs       which connections there are, and their limits  frame.rs   the bytes of a frame
//! facts.rs      what is known of a peer                        error.rs   why a message came to nothing
//! network.rs    the seam below, and TCP                        model.rs   a network for tests and simulation
//! raft_transport.rs  the seam above: Raft's messages           report.rs  reasons in the log, rate-limited
//! ```
//!
//! # Contract
//! Every message is sent at most once; whether a failed call may have been carried out is said by
//! [`PeerError::outcome_unknown`]. Each lane to each peer is a connection of its own, dialled by the
//! node that calls; the other side only answers on it. What outsiders send to the port costs them
//! their connection and nobody anything else.
//!
//! # Depends on
//! `proto` (Hello, Request, Response, Notice), `storage::runtime` (tasks); `raft` in
//! `raft_transport.rs` alone.
//!
//! # Used by
//! The node: shards, task queues, the cluster's own calls, Raft.

mod error;
mod facts;
mod frame;
mod hello;
mod lane;
mod link;
mod model;
mod network;
mod outbox;
mod peers;
mod raft_transport;
mod report;
mod serve;
mod stream;

pub use error::PeerError;
pub use hello::{Identity, PeerIdentity, Policy};
pub use lane::Lane;
pub use model::{Model, ModelNetwork};
pub use network::{ByteStream, Listener, Network, TcpNetwork};
pub use peers::Peers;
pub use serve::Handler;

#[cfg(test)]
mod tests;
