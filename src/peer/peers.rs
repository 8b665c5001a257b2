//! The node's way to its peers: calls, notices and Raft messages by node id.
//!
//! # Contract
//! A message is queued when the function is called, not when its future is polled; messages on one
//! lane to one peer leave in that order. Nothing is sent twice by itself. Dropping the future of a
//! request gives it up: its place is free at once, and the other side is told. Dropping that of a Raft
//! message gives up only the answer.
//!
//! # Depends on
//! `Network` (streams), `Policy` (who we are), `Tasks` (where the links run).
//!
//! # Used by
//! Everything in a node that talks to other nodes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::{Notice, Request, Response};
use bristlecone_storage::runtime::Tasks;
use bytes::Bytes;
use parking_lot::RwLock;
use prost::Message;
use tokio::time::{Instant, timeout_at};

use super::error::{Fault, PeerError};
use super::facts::Facts;
use super::frame::{Frame, Kind};
use super::hello::{self, Policy, Wanted};
use super::lane::{Lane, PerLane};
use super::link::{Context, Link};
use super::network::Network;
use super::outbox::{Item, Outbox, Payload};
use super::report::Reports;
use super::stream::Broken;

/// Nodes that one node knows at most.
const PEERS_MAX: usize = 256;
/// No call waits longer, whatever its caller says.
const CALL_TIME_MAX: Duration = Duration::from_secs(3_600);

/// All peers of a node. Cheap to clone; the connections end with the node's `Tasks`.
#[derive(Debug, Clone)]
pub struct Peers {
    pub(super) context: Arc<Context>,
    peers: Arc<RwLock<BTreeMap<u64, Peer>>>,
}

#[derive(Debug, Clone)]
struct Peer {
    facts: Arc<Facts>,
    links: Arc<PerLane<Arc<Link>>>,
}

impl Peer {
    fn forget_failures(&self) {
        for link in self.links.iter() {
            link.forget_failures();
        }
    }
}

impl Peers {
    /// Must live inside a tokio runtime. Nothing is dialled before there is something to send.
    pub fn new(network: Arc<dyn Network>, policy: Arc<dyn Policy>, tasks: Tasks) -> Self {
        let context = Context { network, policy, tasks, reports: Reports::default() };
        Self { context: Arc::new(context), peers: Arc::default() }
    }

    /// Says where a node is (`host:port`). Connections to its former address end.
    ///
    /// # Errors
    /// `Busy` when 256 nodes are known already.
    pub fn set_address(&self, node_id: u64, address: &str) -> Result<(), PeerError> {
        let peer = self.peer(node_id)?;
        if peer.facts.set_address(address) {
            peer.forget_failures();
        }
        Ok(())
    }

    /// A node has just connected to this one: it can most likely be reached again, so nothing waits out what is left
    /// of a pause after failed dials.
    pub(super) fn is_back(&self, node_id: u64) {
        if let Some(peer) = self.peers.read().get(&node_id) {
            peer.forget_failures();
        }
    }

    pub fn address(&self, node_id: u64) -> Option<Arc<str>> {
        self.peers.read().get(&node_id)?.facts.address()
    }

    /// Forgets a node and ends all connections with it, in both directions. That it is not taken in
    /// again is the policy's business.
    pub fn remove(&self, node_id: u64) {
        if let Some(peer) = self.peers.write().remove(&node_id) {
            peer.facts.remove();
        }
    }

    /// When something was last received from a node, on whatever connection, to the millisecond.
    pub fn last_heard(&self, node_id: u64) -> Option<Instant> {
        self.peers.read().get(&node_id)?.facts.last_heard()
    }

    /// Sends a request and waits for its answer, for one hour at most. `timeout_ms` is filled in.
    pub fn call(
        &self,
        to: u64,
        mut request: Request,
        timeout: Duration,
    ) -> impl Future<Output = Result<Response, PeerError>> + Send + use<> {
        let (deadline, timeout_ms) = deadline(timeout);
        // Its length must not grow any more; what is left is filled in when it is sent.
        request.timeout_ms = timeout_ms;
        let payload = Payload::Request(Box::new(request), deadline);
        let answer = self.link(to, Lane::Calls).map(|link| link.call(Kind::Request, payload, deadline));
        async move { decode(answer?.await?) }
    }

    /// Sends one request to an address of which nothing else is known, over a connection of its own.
    ///
    /// # Errors
    /// As [`Peers::call`]; a node that has not joined is answered only what leads to joining.
    pub fn call_address(
        &self,
        address: &str,
        mut request: Request,
        timeout: Duration,
    ) -> impl Future<Output = Result<Response, PeerError>> + Send + use<> {
        let (deadline, timeout_ms) = deadline(timeout);
        request.timeout_ms = timeout_ms;
        let context = Arc::clone(&self.context);
        let address = Arc::from(address);
        async move {
            let mut sent = false;
            let call = call_once(&context, &address, Payload::Request(Box::new(request), deadline), &mut sent);
            let answer = timeout_at(deadline, call).await;
            answer.unwrap_or(Err(PeerError::TimedOut { sent })).and_then(decode)
        }
    }

    /// Sends a notice. Notices to one node arrive in order, but those that wait when a connection
    /// breaks are gone.
    ///
    /// # Errors
    /// Never `Lost`: an error says that the notice was not sent; no error says nothing.
    pub fn notify(&self, to: u64, notice: Notice) -> Result<(), PeerError> {
        self.link(to, Lane::Calls)?.tell(Kind::Notice, Payload::Notice(Box::new(notice)))
    }

    /// Sends a Raft message on a lane (any but `Calls`) and waits for its answer.
    pub fn raft_call(
        &self,
        to: u64,
        lane: Lane,
        message: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, PeerError>> + Send + use<> {
        debug_assert_ne!(lane, Lane::Calls, "the acceptor takes no Raft messages there");
        let (deadline, _) = deadline(timeout);
        let answer = self.link(to, lane).map(|link| link.call(Kind::RaftCall, Payload::Raw(message), deadline));
        async move { answer?.await }
    }

    /// What is known of a node; it becomes known by this.
    pub(super) fn facts(&self, node_id: u64) -> Result<Arc<Facts>, PeerError> {
        self.peer(node_id).map(|peer| peer.facts)
    }

    fn peer(&self, node_id: u64) -> Result<Peer, PeerError> {
        if let Some(peer) = self.peers.read().get(&node_id) {
            return Ok(peer.clone());
        }
        let mut peers = self.peers.write();
        if peers.len() >= PEERS_MAX && !peers.contains_key(&node_id) {
            return Err(PeerError::Busy("to know another node"));
        }
        let peer = peers.entry(node_id).or_insert_with(|| {
            let facts = Arc::new(Facts::new(node_id));
            let link = |lane| Arc::new(Link::new(Arc::clone(&self.context), Arc::clone(&facts), lane));
            let links = Arc::new(PerLane::new(link));
            Peer { facts, links }
        });
        Ok(peer.clone())
    }

    fn link(&self, to: u64, lane: Lane) -> Result<Arc<Link>, PeerError> {
        let peers = self.peers.read();
        let link = peers.get(&to).map(|peer| Arc::clone(peer.links.get(lane)));
        link.ok_or_else(|| PeerError::Unreachable(format!("node {to} is not known")))
    }
}

/// When a call is over, and the same in milliseconds from now.
fn deadline(timeout: Duration) -> (Instant, u64) {
    let timeout = timeout.min(CALL_TIME_MAX);
    (Instant::now() + timeout, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn decode(answer: Bytes) -> Result<Response, PeerError> {
    Response::decode(answer).map_err(|error| PeerError::Failed(format!("answer not understood: {error}")))
}

async fn call_once(
    context: &Context,
    address: &Arc<str>,
    payload: Payload,
    sent: &mut bool,
) -> Result<Bytes, PeerError> {
    let outbox = Outbox::new(Lane::Calls.limits(), false);
    let number = outbox.offer(Item::new(Kind::Request, payload)?)?;
    let mut connection = hello::dial(&*context.network, &*context.policy, address, Wanted::Anyone, Lane::Calls).await?;
    *sent = true;
    let answer = tokio::select! {
        biased;
        answer = connection.reader.next() => answer,
        broken = connection.writer.drain(&outbox) => Err(broken),
    };
    connection.writer.close().await;
    let lost = |broken: Broken| PeerError::Lost(format!("{address}: {broken}"));
    match answer.map_err(lost)? {
        Frame { kind: Kind::Response, call, payload } if call == number => Ok(payload),
        Frame { kind: Kind::Error, call, payload } if call == number => Err(Fault::decode(&payload)),
        Frame { kind, .. } => Err(lost(Broken::Misplaced(kind))),
    }
}
