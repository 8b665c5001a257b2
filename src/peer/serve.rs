//! The accepting side: takes connections in, and hands what arrives on them to the node.
//!
//! # Contract
//! - Notices and Raft messages of one connection are handed over in the order of arrival, and the
//!   futures that answer Raft messages are first polled in that order too. Requests run side by side,
//!   each in a task of its own.
//! - Answers leave in whatever order they are ready.
//! - What one connection can make this node hold is limited by its lane; calls beyond are
//!   answered Busy, and nothing is read while too many answers wait to be taken.
//! - Nothing that arrives can hurt more than its own connection.
//!
//! # Used by
//! The node, once per listener.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::{Notice, Request, Response, request};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Semaphore;

use super::error::{Fault, PeerError};
use super::facts::{Facts, Turn};
use super::frame::{Frame, Kind};
use super::hello::{self, Connection, PeerIdentity, Unserved};
use super::lane::{Lane, LaneLimits};
use super::link::Context;
use super::network::{ByteStream, Listener};
use super::outbox::{Item, Outbox, Payload};
use super::peers::Peers;
use super::stream::{Broken, FrameReader};

/// Connections that one listener serves at a time.
const CONNECTIONS_MAX: usize = 2_048;
/// Pause after the operating system refused to accept (mostly: no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A request runs no longer than this, whatever its caller says.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(3_600);

/// What the node does with what its peers say.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request. The future is dropped when the caller's time is over, when the caller gave
    /// up, and when its connection broke.
    fn request(&self, from: PeerIdentity, request: Request) -> BoxFuture<'static, Response>;

    /// Takes a notice. Must not block; the next message of the connection waits for it.
    fn notice(&self, from: &PeerIdentity, notice: Notice);

    /// Answers a Raft message. It must take its place in the group's order at the latest when the
    /// future is first polled. `Err`: why there is no answer, in words for people.
    fn raft(&self, from: &PeerIdentity, lane: Lane, message: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}

impl Peers {
    /// Serves a listener until the node's `Tasks` stop.
    pub fn serve(&self, listener: Box<dyn Listener>, handler: Arc<dyn Handler>) {
        self.context.tasks.spawn(accept_all(self.clone(), listener, handler));
    }
}

async fn accept_all(peers: Peers, mut listener: Box<dyn Listener>, handler: Arc<dyn Handler>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                peers.context.reports.connection(&listener.local_address(), &error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            peers.context.reports.connection(&address, &"too many connections");
            continue;
        };
        let (peers, handler) = (peers.clone(), Arc::clone(&handler));
        let tasks = peers.context.tasks.clone();
        tasks.spawn(async move {
            let _place = place;
            serve_connection(&peers, stream, address.into(), handler).await;
        });
    }
}

async fn serve_connection(peers: &Peers, stream: Box<dyn ByteStream>, address: Arc<str>, handler: Arc<dyn Handler>) {
    let context = &*peers.context;
    let facts_of = |node_id| peers.facts(node_id).map_err(|error| error.to_string());
    let connection = match hello::accept(stream, Arc::clone(&address), &*context.policy, facts_of).await {
        Ok(connection) => connection,
        Err(Unserved::Because(why)) => return context.reports.connection(&address, &why),
        Err(Unserved::Left) => return,
    };
    let Connection { mut reader, mut writer, peer, process, lane, lasting, facts } = connection;
    if facts.is_some() {
        peers.is_back(peer.node_id);
    }
    let turn = match &facts {
        Some(facts) if lasting => match facts.turn(lane).await {
            Some(turn) => Some(turn),
            None => return,
        },
        Some(_) | None => None,
    };
    let outbox = Arc::new(Outbox::new(lane.limits(), false));
    let calls = Arc::new(Calls::default());
    let serving = Serving { context, handler, peer, lane, restricted: facts.is_none(), outbox, calls };
    let superseded = async {
        let Some(facts) = &facts else { return std::future::pending().await };
        tokio::select! {
            why = facts.superseded(process, None) => Broken::Superseded(why),
            () = overtaken(facts, &turn) => Broken::Superseded("the node has dialled again"),
        }
    };
    let broken = tokio::select! {
        biased;
        broken = serving.read(&mut reader) => broken,
        broken = writer.drain(&serving.outbox) => broken,
        broken = superseded => broken,
    };
    match &broken {
        Broken::Frame(_) | Broken::Misplaced(_) => context.reports.connection(&address, &broken),
        Broken::Closed | Broken::Io(_) | Broken::Silent | Broken::Stalled | Broken::Superseded(_) => {
            tracing::debug!(node = serving.peer.node_id, ?lane, "served connection ended: {broken}");
        }
    }
}

async fn overtaken(facts: &Facts, turn: &Option<Turn>) {
    match turn {
        Some(turn) => facts.overtaken(turn).await,
        None => std::future::pending().await,
    }
}

/// One connection that is served.
struct Serving<'a> {
    context: &'a Context,
    handler: Arc<dyn Handler>,
    peer: PeerIdentity,
    lane: Lane,
    restricted: bool,
    outbox: Arc<Outbox>,
    calls: Arc<Calls>,
}

impl Serving<'_> {
    /// Hands over what arrives until the connection breaks.
    async fn read(&self, reader: &mut FrameReader) -> Broken {
        let mut raft_answers = FuturesUnordered::new();
        loop {
            let next = async {
                self.outbox.room().await;
                reader.next().await
            };
            let frame = tokio::select! {
                biased;
                Some(()) = raft_answers.next(), if !raft_answers.is_empty() => continue,
                frame = next => frame,
            };
            let Frame { kind, call, payload } = match frame {
                Ok(frame) => frame,
                Err(broken) => return broken,
            };
            match (kind, self.lane) {
                (Kind::Request, Lane::Calls) => self.take_request(call, payload),
                (Kind::Cancel, Lane::Calls) => self.calls.cancel(call),
                (Kind::Notice, Lane::Calls) if !self.restricted => {
                    if let Err(broken) = self.take_notice(payload) {
                        return broken;
                    }
                }
                (Kind::RaftCall, Lane::Control | Lane::AppendEven | Lane::AppendOdd | Lane::Snapshot)
                    if !self.restricted =>
                {
                    raft_answers.extend(self.take_raft(call, payload));
                }
                _ => return Broken::Misplaced(kind),
            }
        }
    }

    fn take_notice(&self, payload: Bytes) -> Result<(), Broken> {
        let notice = Notice::decode(payload).map_err(|error| Broken::Io(format!("notice not understood: {error}")))?;
        self.handler.notice(&self.peer, notice);
        Ok(())
    }

    fn take_raft(&self, call: u64, payload: Bytes) -> Option<impl Future<Output = ()> + use<>> {
        let taken = self.enter(call, payload.len())?;
        let answer = self.handler.raft(&self.peer, self.lane, payload);
        Some(async move {
            match answer.await {
                Ok(answer) => taken.answer(Item::new(Kind::RaftAnswer, Payload::Raw(answer))),
                Err(why) => taken.fail(Fault::Failed, &why),
            }
        })
    }

    fn take_request(&self, call: u64, payload: Bytes) {
        let Some(taken) = self.enter(call, payload.len()) else { return };
        let (handler, peer, restricted) = (Arc::clone(&self.handler), self.peer.clone(), self.restricted);
        let (abort, registration) = AbortHandle::new_pair();
        self.calls.enter_abort(call, abort);
        let task = async move {
            match run_request(&*handler, peer, restricted, payload).await {
                Some(Ok(response)) => taken.answer(Item::new(Kind::Response, Payload::Response(Box::new(response)))),
                Some(Err(why)) => taken.fail(Fault::Refused, &why),
                // Nobody waits any more.
                None => taken.forget(),
            }
        };
        self.context.tasks.spawn(async move {
            // Aborted: the caller gave up, and the call was forgotten with that.
            let _ = Abortable::new(task, registration).await;
        });
    }

    /// Finds a place for a call, or answers that there is none.
    fn enter(&self, call: u64, bytes: usize) -> Option<Taken> {
        if !self.calls.enter(call, bytes, self.lane.limits()) {
            self.outbox.answer(Item::fault(Fault::Busy, "").about(call));
            return None;
        }
        Some(Taken { calls: Arc::clone(&self.calls), outbox: Arc::clone(&self.outbox), call })
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.calls.end();
    }
}

/// `Err`: the request was not carried out, and why. `None`: its time ran out.
async fn run_request(
    handler: &dyn Handler,
    peer: PeerIdentity,
    restricted: bool,
    payload: Bytes,
) -> Option<Result<Response, String>> {
    let request = match Request::decode(payload) {
        Ok(Request { kind: None, .. }) => return Some(Err("a request that this version does not know".into())),
        Ok(request) => request,
        Err(error) => return Some(Err(format!("request not understood: {error}"))),
    };
    if restricted && !matches!(&request.kind, Some(request::Kind::Join(_) | request::Kind::Status(_))) {
        return Some(Err("only a node of the same cluster may ask that".into()));
    }
    let limit = match request.timeout_ms {
        0 => REQUEST_TIME_MAX,
        timeout_ms => Duration::from_millis(timeout_ms).min(REQUEST_TIME_MAX),
    };
    tokio::time::timeout(limit, handler.request(peer, request)).await.ok().map(Ok)
}

/// The calls that a connection is being answered.
#[derive(Debug, Default)]
struct Calls {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    running: HashMap<u64, Running>,
    bytes: usize,
}

#[derive(Debug)]
struct Running {
    bytes: usize,
    abort: Option<AbortHandle>,
}

impl Calls {
    fn enter(&self, call: u64, bytes: usize, limits: LaneLimits) -> bool {
        let mut table = self.table.lock();
        let fits = table.running.is_empty() || table.bytes + bytes <= limits.call_bytes_max;
        if !fits || table.running.len() >= limits.calls_max || table.running.contains_key(&call) {
            return false;
        }
        table.bytes += bytes;
        table.running.insert(call, Running { bytes, abort: None });
        true
    }

    fn enter_abort(&self, call: u64, abort: AbortHandle) {
        if let Some(running) = self.table.lock().running.get_mut(&call) {
            running.abort = Some(abort);
        }
    }

    fn cancel(&self, call: u64) {
        if let Some(Running { abort: Some(abort), .. }) = self.leave(call) {
            abort.abort();
        }
    }

    /// `None`: the call was cancelled already.
    fn leave(&self, call: u64) -> Option<Running> {
        let mut table = self.table.lock();
        let running = table.running.remove(&call)?;
        table.bytes -= running.bytes;
        Some(running)
    }

    fn end(&self) {
        let running = std::mem::take(&mut *self.table.lock()).running;
        for Running { abort, .. } in running.into_values() {
            if let Some(abort) = abort {
                abort.abort();
            }
        }
    }
}

/// The duty to answer a call. Dropped without an answer (a handler panicked), it says so.
struct Taken {
    calls: Arc<Calls>,
    outbox: Arc<Outbox>,
    call: u64,
}

impl Taken {
    fn answer(self, item: Result<Item, PeerError>) {
        let item = item.unwrap_or_else(|error| Item::fault(Fault::Failed, &format!("its answer is {error}")));
        if self.calls.leave(self.call).is_some() {
            self.outbox.answer(item.about(self.call));
        }
    }

    fn fail(self, fault: Fault, why: &str) {
        self.answer(Ok(Item::fault(fault, why)));
    }

    fn forget(self) {
        self.calls.leave(self.call);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.calls.leave(self.call).is_some() {
            let why = Item::fault(Fault::Failed, "the request was given up unanswered");
            self.outbox.answer(why.about(self.call));
        }
    }
}
