//! One lane to one peer, seen from the dialler: its queue, its calls, and the connection that carries
//! them while there is one.
//!
//! # Contract
//! ```text
//! state        what it does                                  what ends it
//! idle         no connection, nothing queued                 a message is put in → dialling
//! dialling     messages queue up                             connected | failed → backing off
//! connected    writes, matches answers with calls            broken → idle, or backing off if young
//! backing off  messages fail at once with the last reason    its time (50 ms … 1 s from the dial's start) → idle
//! ended        messages fail at once                         nothing
//! ```
//! A message belongs to one connection at most: when that breaks, everything queued or unanswered
//! fails, and nothing is ever sent twice.
//!
//! # Used by
//! `peers.rs`.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bristlecone_storage::runtime::Tasks;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::error::{Fault, PeerError};
use super::facts::Facts;
use super::frame::{Frame, Kind};
use super::hello::{self, Connection, Policy, Wanted};
use super::lane::Lane;
use super::network::Network;
use super::outbox::{Item, Outbox, Payload};
use super::report::Reports;
use super::stream::{Broken, FrameReader};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived shorter than this counts as a failed one.
const YOUNG: Duration = BACKOFF_MAX;

/// What all links of a node share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) network: Arc<dyn Network>,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) tasks: Tasks,
    pub(super) reports: Reports,
}

#[derive(Debug)]
pub(super) struct Link {
    context: Arc<Context>,
    facts: Arc<Facts>,
    lane: Lane,
    outbox: Outbox,
    /// Whether the link's task was started.
    started: AtomicBool,
    // Locked before the outbox's own lock, never after it.
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    gate: Gate,
    waiting: HashMap<u64, oneshot::Sender<Result<Bytes, PeerError>>>,
}

#[derive(Debug)]
enum Gate {
    Open,
    /// Backing off.
    Until(Instant, PeerError),
    Ended(PeerError),
}

impl Link {
    pub(super) fn new(context: Arc<Context>, facts: Arc<Facts>, lane: Lane) -> Self {
        let outbox = Outbox::new(lane.limits(), lane == Lane::Control);
        let calls = Calls { gate: Gate::Open, waiting: HashMap::new() };
        Self { context, facts, lane, outbox, started: AtomicBool::new(false), calls: Mutex::new(calls) }
    }

    /// Queues a call now; the future waits for the answer's payload. Dropping it gives the answer up,
    /// and a request with it.
    pub(super) fn call(
        self: &Arc<Self>,
        kind: Kind,
        payload: Payload,
        deadline: Instant,
    ) -> impl Future<Output = Result<Bytes, PeerError>> + Send + use<> {
        let queued = self.queue_call(kind, payload);
        async move {
            let (mut call, answer) = queued?;
            match timeout_at(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                // The link's end answers all calls; only a runtime that goes down drops them.
                Ok(Err(_)) => Err(PeerError::Lost("this node stops".into())),
                Err(_) => Err(PeerError::TimedOut { sent: call.give_up() }),
            }
        }
    }

    /// Queues a message that has no answer.
    pub(super) fn tell(self: &Arc<Self>, kind: Kind, payload: Payload) -> Result<(), PeerError> {
        let item = Item::new(kind, payload)?;
        self.start();
        let mut calls = self.calls.lock();
        calls.enter()?;
        self.outbox.offer(item).map(drop)
    }

    /// Makes the next message dial at once: the peer may be back, or elsewhere.
    pub(super) fn forget_failures(&self) {
        let mut calls = self.calls.lock();
        if let Gate::Until(..) = calls.gate {
            calls.gate = Gate::Open;
        }
    }

    fn queue_call(
        self: &Arc<Self>,
        kind: Kind,
        payload: Payload,
    ) -> Result<(Call, oneshot::Receiver<Result<Bytes, PeerError>>), PeerError> {
        let item = Item::new(kind, payload)?;
        self.start();
        let mut calls = self.calls.lock();
        calls.enter()?;
        if calls.waiting.len() >= self.lane.limits().calls_max {
            return Err(PeerError::Busy("to be answered"));
        }
        let number = self.outbox.offer(item)?;
        let (sender, answer) = oneshot::channel();
        calls.waiting.insert(number, sender);
        Ok((Call { link: Arc::clone(self), number, cancels: kind == Kind::Request }, answer))
    }

    /// Starts the link's task when this is its first message.
    fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Ordering::Relaxed) {
            let ending = Ending(Arc::clone(self));
            self.context.tasks.spawn(async move { ending.0.run().await });
        }
    }

    /// Dials when there is something to send, until the peer is removed.
    async fn run(&self) {
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = self.facts.removed() => return,
                () = self.outbox.filled() => {}
            }
            let start = Instant::now();
            let address = self.facts.address();
            let error = match self.dial(address.as_ref()).await {
                Ok(connection) => {
                    let connected = Instant::now();
                    let broken = self.converse(connection).await;
                    tracing::info!(node = self.facts.node_id, lane = ?self.lane, "connection ended: {broken}");
                    let of_age = connected.elapsed() >= YOUNG || matches!(broken, Broken::Superseded(_));
                    failures = if of_age { 0 } else { failures + 1 };
                    PeerError::NotSent(broken.to_string())
                }
                Err(error) => {
                    if let (PeerError::Refused(why), Some(address)) = (&error, &address) {
                        self.context.reports.connection(address, why);
                    } else if failures == 0 {
                        tracing::info!(node = self.facts.node_id, lane = ?self.lane, "cannot connect: {error}");
                    }
                    failures = if self.facts.address() == address { failures + 1 } else { 0 };
                    error
                }
            };
            let gate = match failures {
                0 => Gate::Open,
                _ => Gate::Until(start + backoff(failures), error.clone()),
            };
            self.fail_all(&error, gate);
        }
    }

    async fn dial(&self, address: Option<&Arc<str>>) -> Result<Connection, PeerError> {
        let Context { network, policy, .. } = &*self.context;
        let unknown = || PeerError::Unreachable(format!("no address of node {} is known", self.facts.node_id));
        let address = address.ok_or_else(unknown)?;
        hello::dial(&**network, &**policy, address, Wanted::Node(&self.facts), self.lane).await
    }

    /// Writes and reads until the connection breaks.
    async fn converse(&self, connection: Connection) -> Broken {
        let Connection { mut reader, mut writer, peer, process, .. } = connection;
        let broken = tokio::select! {
            biased;
            broken = self.take_answers(&mut reader) => broken,
            broken = writer.drain(&self.outbox) => broken,
            why = self.facts.superseded(process, Some(&peer.address)) => Broken::Superseded(why),
        };
        match &broken {
            Broken::Frame(_) | Broken::Misplaced(_) => self.context.reports.connection(&peer.address, &broken),
            Broken::Closed | Broken::Io(_) | Broken::Silent | Broken::Stalled | Broken::Superseded(_) => {}
        }
        broken
    }

    async fn take_answers(&self, reader: &mut FrameReader) -> Broken {
        loop {
            let Frame { kind, call, payload } = match reader.next().await {
                Ok(frame) => frame,
                Err(broken) => return broken,
            };
            let answer = match kind {
                Kind::Response | Kind::RaftAnswer => Ok(payload),
                Kind::Error => Err(Fault::decode(&payload)),
                Kind::Hello | Kind::Request | Kind::Notice | Kind::RaftCall | Kind::Cancel | Kind::Ping => {
                    return Broken::Misplaced(kind);
                }
            };
            // Whoever gave the call up meanwhile does not want the answer.
            if let Some(waiting) = self.calls.lock().waiting.remove(&call) {
                let _ = waiting.send(answer);
            }
        }
    }

    /// Fails whatever is queued with `unsent`, whatever was handed to a connection as lost.
    fn fail_all(&self, unsent: &PeerError, gate: Gate) {
        let mut calls = self.calls.lock();
        calls.gate = gate;
        let first_unsent = self.outbox.clear();
        for (number, waiting) in calls.waiting.drain() {
            let error = match unsent {
                _ if number >= first_unsent => unsent.clone(),
                PeerError::NotSent(why) => PeerError::Lost(why.clone()),
                other => PeerError::Lost(other.to_string()),
            };
            let _ = waiting.send(Err(error));
        }
    }
}

impl Calls {
    /// Whether a message may be put in.
    fn enter(&mut self) -> Result<(), PeerError> {
        match &self.gate {
            Gate::Open => Ok(()),
            Gate::Until(until, error) if Instant::now() < *until => Err(error.clone()),
            Gate::Until(..) => {
                self.gate = Gate::Open;
                Ok(())
            }
            Gate::Ended(error) => Err(error.clone()),
        }
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << (failures - 1).min(10)).min(BACKOFF_MAX)
}

/// A call that waits. Dropping it forgets the answer, and a request with it; a Raft message is sent
/// all the same.
#[derive(Debug)]
struct Call {
    link: Arc<Link>,
    number: u64,
    /// Whether the other side is told when nobody waits any more.
    cancels: bool,
}

impl Call {
    /// Returns whether the message had been handed to a connection.
    fn give_up(&mut self) -> bool {
        let mut calls = self.link.calls.lock();
        if calls.waiting.remove(&self.number).is_none() {
            return true;
        }
        if self.link.outbox.withdraw(self.number) {
            return false;
        }
        if self.cancels
            && let Ok(cancel) = Item::new(Kind::Cancel, Payload::Raw(Bytes::new()))
        {
            // Best effort: a full queue has worse worries.
            let _ = self.link.outbox.offer(cancel.about(self.number));
        }
        true
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.cancels {
            self.give_up();
        } else {
            self.link.calls.lock().waiting.remove(&self.number);
        }
    }
}

/// Fails everything when the link's task ends, also when it is aborted.
struct Ending(Arc<Link>);

impl Drop for Ending {
    fn drop(&mut self) {
        let error = PeerError::Unreachable("the node was removed, or this one stops".into());
        self.0.fail_all(&error, Gate::Ended(error.clone()));
    }
}
