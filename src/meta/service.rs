//! Changes of the metadata: routed to the meta group's leader, decided there one after another.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::node::{MetaCall, MetaReply, Request, meta_call, request, response};
use bristlecone_raft::{Decision, Epoch, Group, GroupId, Observer, ProposeError};
use bristlecone_storage::runtime::Clock;
use bristlecone_storage::state::{Batch, StateStore};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::decide::decide;
use super::view::MetaView;
use crate::peer::{PeerError, Peers};

/// The meta group's id in every cluster.
pub const META_GROUP: GroupId = 1;
/// Changes that wait for the leader.
const WAITING_MAX: usize = 1_024;
/// How long a change waits for the other members to apply it.
const SPREAD_MAX: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(50);
/// A member that was heard this lately is waited for although it cannot be called at the moment.
const LIVES: Duration = Duration::from_secs(1);

/// Keeps the view up to date; the groups of a node report to it.
#[derive(Debug)]
pub struct MetaObserver {
    store: Arc<dyn StateStore>,
    view: watch::Sender<Arc<MetaView>>,
    fatal: mpsc::UnboundedSender<String>,
}

impl MetaObserver {
    /// `fatal` hears why the process has to stop.
    pub fn new(store: Arc<dyn StateStore>, fatal: mpsc::UnboundedSender<String>) -> anyhow::Result<Self> {
        let view = MetaView::load(&*store, 0)?;
        Ok(Self { store, view: watch::Sender::new(Arc::new(view)), fatal })
    }

    pub fn watch(&self) -> watch::Receiver<Arc<MetaView>> {
        self.view.subscribe()
    }

    fn publish(&self, view: anyhow::Result<MetaView>) {
        match view {
            Ok(view) => drop(self.view.send_replace(Arc::new(view))),
            Err(error) => self.fatal(Some(META_GROUP), &format!("the metadata cannot be read: {error:#}")),
        }
    }
}

impl Observer for MetaObserver {
    fn applied(&self, group: GroupId, index: u64, mutations: &Batch) {
        if group == META_GROUP {
            let view = self.view.borrow().clone();
            self.publish(view.after(index, mutations));
        }
    }

    fn installed(&self, group: GroupId, index: u64) {
        if group == META_GROUP {
            self.publish(MetaView::load(&*self.store, index));
        }
    }

    fn fatal(&self, group: Option<GroupId>, reason: &str) {
        tracing::error!(?group, reason, "the node cannot go on");
        // Nobody listens any more when the node is stopping already.
        drop(self.fatal.send(reason.to_string()));
    }
}

/// The metadata service of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meta {
    me: u64,
    view: watch::Receiver<Arc<MetaView>>,
    group: Group,
    peers: Peers,
    mailbox: mpsc::Sender<Change>,
}

#[derive(Debug)]
struct Change {
    call: meta_call::Kind,
    respond: oneshot::Sender<Result<MetaReply, Refused>>,
}

/// Why the leader did not decide.
#[derive(Debug)]
enum Refused {
    NotLeader,
    Unknown,
    Rejected(Rejection),
}

/// Decides changes while this node leads the meta group.
#[derive(Debug)]
pub struct Mouth {
    group: Group,
    view: watch::Receiver<Arc<MetaView>>,
    clock: Arc<dyn Clock>,
    mailbox: mpsc::Receiver<Change>,
}

impl Meta {
    pub fn new(
        me: u64,
        group: Group,
        view: watch::Receiver<Arc<MetaView>>,
        peers: Peers,
        clock: Arc<dyn Clock>,
    ) -> (Self, Mouth) {
        let (sender, mailbox) = mpsc::channel(WAITING_MAX);
        let meta = Self { me, view: view.clone(), group: group.clone(), peers, mailbox: sender };
        (meta, Mouth { group, view, clock, mailbox })
    }

    pub fn view(&self) -> Arc<MetaView> {
        self.view.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Arc<MetaView>> {
        self.view.clone()
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Changes the metadata; answers when the change is applied here and on all live members.
    ///
    /// # Errors
    /// The rejection, or UNAVAILABLE when no leader could be found in time or the outcome is unknown.
    pub async fn call(&self, call: meta_call::Kind, deadline: Instant) -> Result<MetaReply, Rejection> {
        loop {
            let leader = self.group.leadership().borrow().leader;
            let reply = match leader {
                Some(node) if node == self.me => self.call_here(call.clone()).await,
                Some(node) => self.call_there(node, call.clone(), deadline).await,
                None => Err(Refused::NotLeader),
            };
            match reply {
                Ok(reply) => {
                    self.spread(reply.index, deadline).await;
                    return Ok(reply);
                }
                Err(Refused::Rejected(rejection)) => return Err(rejection),
                Err(Refused::Unknown) => {
                    return Err(unavailable("the outcome of a change of the cluster's metadata is unknown"));
                }
                Err(Refused::NotLeader) if Instant::now() + RETRY < deadline => tokio::time::sleep(RETRY).await,
                Err(Refused::NotLeader) => return Err(unavailable("the cluster's metadata has no leader")),
            }
        }
    }

    /// Decides a change that another node sent here.
    pub async fn serve(&self, call: meta_call::Kind) -> response::Kind {
        match self.call_here(call).await {
            Ok(reply) => response::Kind::Meta(reply),
            Err(Refused::Rejected(rejection)) => {
                response::Kind::Meta(MetaReply { rejected: Some(rejection), ..MetaReply::default() })
            }
            Err(Refused::NotLeader) => response::Kind::NotLeader(bristlecone_proto::node::NotLeader {
                node_id: self.group.leadership().borrow().leader.unwrap_or(0),
            }),
            Err(Refused::Unknown) => response::Kind::Failed(unavailable("the outcome is unknown")),
        }
    }

    /// Waits until this node has applied an entry of the meta group.
    pub async fn await_index(&self, index: u64, wait: Duration) -> bool {
        self.group.wait_applied(index, wait).await.is_ok()
    }

    async fn call_here(&self, call: meta_call::Kind) -> Result<MetaReply, Refused> {
        let (respond, reply) = oneshot::channel();
        self.mailbox.try_send(Change { call, respond }).map_err(|_| Refused::NotLeader)?;
        reply.await.unwrap_or(Err(Refused::Unknown))
    }

    async fn call_there(&self, node: u64, call: meta_call::Kind, deadline: Instant) -> Result<MetaReply, Refused> {
        let request = Request { timeout_ms: 0, kind: Some(request::Kind::Meta(MetaCall { kind: Some(call) })) };
        let left = deadline.saturating_duration_since(Instant::now());
        match self.peers.call(node, request, left).await.map(|response| response.kind) {
            Ok(Some(response::Kind::Meta(MetaReply { rejected: Some(rejection), .. }))) => {
                Err(Refused::Rejected(rejection))
            }
            Ok(Some(response::Kind::Meta(reply))) => Ok(reply),
            Ok(Some(response::Kind::NotLeader(_))) => Err(Refused::NotLeader),
            Ok(_) => Err(Refused::Unknown),
            Err(error) if PeerError::outcome_unknown(&error) => Err(Refused::Unknown),
            Err(_) => Err(Refused::NotLeader),
        }
    }

    /// Waits until the live members have applied an entry, within limits.
    async fn spread(&self, index: u64, deadline: Instant) {
        let wait = SPREAD_MAX.min(deadline.saturating_duration_since(Instant::now()));
        let until = Instant::now() + wait;
        let members: Vec<u64> = self.view().present_members().map(|m| m.node_id).filter(|n| *n != self.me).collect();
        let others = members.into_iter().map(|node| self.await_index_there(node, index, until));
        futures::future::join(self.await_index(index, wait), futures::future::join_all(others)).await;
    }

    /// Waits until a member has applied an entry, or until it is not heard any more. One that was just started can be
    /// heard before it can be called.
    async fn await_index_there(&self, node: u64, index: u64, until: Instant) {
        loop {
            let request = Request { timeout_ms: 0, kind: Some(request::Kind::AwaitMetaIndex(index)) };
            let Err(error) = self.peers.call(node, request, until.saturating_duration_since(Instant::now())).await
            else {
                return;
            };
            let lives = self.peers.last_heard(node).is_some_and(|at| at.elapsed() < LIVES);
            if !lives || Instant::now() + RETRY > until {
                tracing::debug!(node, %error, "a member may not know of a change yet");
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

impl Mouth {
    /// Runs until the group stops.
    pub async fn run(mut self) {
        let mut leadership = self.group.leadership();
        loop {
            let leads = leadership.borrow_and_update().is_local;
            if leads && let Ok(epoch) = self.group.begin().await {
                self.lead(epoch).await;
            }
            // Whoever asks while this node does not lead is told so.
            tokio::select! {
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                change = self.mailbox.recv() => match change {
                    Some(change) => drop(change.respond.send(Err(Refused::NotLeader))),
                    None => return,
                },
                // An epoch that ended while this node still leads is followed by another.
                () = tokio::time::sleep(RETRY), if leads => {}
            }
        }
    }

    /// Decides one change after another until a proposal fails or the leadership is gone.
    async fn lead(&mut self, epoch: Epoch) {
        let mut leadership = self.group.leadership();
        let mut number = 0;
        let mut time = epoch.time;
        let mut index = epoch.index;
        loop {
            let change = tokio::select! {
                change = self.mailbox.recv() => change,
                changed = leadership.changed() => {
                    if changed.is_err() || !leadership.borrow().is_local {
                        return;
                    }
                    continue;
                }
            };
            let Some(Change { call, respond }) = change else { return };
            // The view follows the rows; it has to show the last change before the next is decided.
            let mut view = self.view.clone();
            if number > 0 && view.wait_for(|view| view.index >= index).await.is_err() {
                return;
            }
            let view = view.borrow().clone();
            time = time.max(self.clock.wall());
            let (rows, mut reply) = match decide(&view, call, time) {
                Ok(decided) => decided,
                Err(rejection) => {
                    // Rejections too are answered by a leader that is one.
                    let confirmed = self.group.confirm(&epoch).await.is_ok();
                    let refused = if confirmed { Refused::Rejected(rejection) } else { Refused::NotLeader };
                    drop(respond.send(Err(refused)));
                    continue;
                }
            };
            if rows.is_empty() {
                // Nothing to change, says a leader that is one.
                let confirmed = self.group.confirm(&epoch).await.is_ok();
                // Whoever has applied as much knows all that was agreed on before this answer.
                reply.index = self.group.applied();
                drop(respond.send(if confirmed { Ok(reply) } else { Err(Refused::NotLeader) }));
                continue;
            }
            number += 1;
            match self.propose(&epoch, number, time, rows).await {
                Ok(at) => {
                    index = at;
                    reply.index = at;
                    drop(respond.send(Ok(reply)));
                }
                Err(ProposeError::NotLeader { .. }) => {
                    drop(respond.send(Err(Refused::NotLeader)));
                    return;
                }
                Err(ProposeError::TooLarge { .. } | ProposeError::Refused | ProposeError::Unknown) => {
                    drop(respond.send(Err(Refused::Unknown)));
                    return;
                }
            }
        }
    }

    async fn propose(
        &self,
        epoch: &Epoch,
        number: u64,
        time: i64,
        rows: bristlecone_storage::state::BatchBuilder,
    ) -> Result<u64, ProposeError> {
        let mutations = rows.finish().map_err(|_| ProposeError::Refused)?;
        let decision = Decision { number, time, meta_index: 0, feature_level: 0, mutations };
        self.group.propose(epoch, decision).await.map(|applied| applied.index)
    }
}

fn unavailable(message: &str) -> Rejection {
    reply::plain(reply::code::UNAVAILABLE, message)
}
