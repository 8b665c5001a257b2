//! Nodes that talk, over TCP and over the model network: what they are made of, and how they answer.

mod calls;
mod chaos;
mod garbage;
mod handshake;
mod lifecycle;
mod limits;
mod model;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::chain::ChainId;
use bristlecone_proto::node::{
    ChainCall, LeaderHint, NodeStatus, Notice, Request, Response, StatusReply, StatusRequest, notice, request, response,
};
use bristlecone_storage::runtime::Tasks;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;

/// Time in which whatever is expected has happened, or the test fails.
const SOON: Duration = Duration::from_secs(20);

/// Runs one test over TCP in real time and over the model in virtual time.
macro_rules! over_both {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;

            #[tokio::test]
            async fn over_tcp() {
                let body = $body;
                body(Net::Tcp).await;
            }

            #[tokio::test(start_paused = true)]
            async fn over_the_model() {
                let body = $body;
                body(Net::Model(Model::new(7))).await;
            }
        }
    };
}
use over_both;

#[derive(Debug, Clone)]
pub(super) enum Net {
    Tcp,
    Model(Model),
}

impl Net {
    fn host(&self, name: &str) -> Arc<dyn Network> {
        match self {
            Self::Tcp => Arc::new(TcpNetwork),
            Self::Model(model) => Arc::new(model.host(name)),
        }
    }

    async fn listen(&self, name: &str, address: Option<&str>) -> Box<dyn Listener> {
        let any = match self {
            Self::Tcp => "127.0.0.1:0".into(),
            Self::Model(_) => format!("{name}:0"),
        };
        self.host(name).listen(address.unwrap_or(&any)).await.expect("listens")
    }
}

#[derive(Debug)]
pub(super) struct TestPolicy {
    pub(super) identity: Identity,
    pub(super) removed: Mutex<BTreeSet<u64>>,
}

impl Policy for TestPolicy {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn is_removed(&self, node_id: u64) -> bool {
        self.removed.lock().contains(&node_id)
    }
}

fn identity(node_id: u64) -> Identity {
    Identity { cluster_id: "blue".into(), node_id, incarnation: 1, boot: node_id * 100 }
}

/// One node: it listens, and can call.
pub(super) struct Node {
    pub(super) peers: Peers,
    pub(super) tasks: Tasks,
    pub(super) address: String,
    pub(super) handler: Arc<TestHandler>,
    pub(super) policy: Arc<TestPolicy>,
}

impl Node {
    async fn start(net: &Net, node_id: u64) -> Self {
        Self::start_as(net, &format!("n{node_id}"), identity(node_id), None).await
    }

    async fn start_as(net: &Net, host: &str, identity: Identity, address: Option<&str>) -> Self {
        let tasks = Tasks::single_threaded();
        let policy = Arc::new(TestPolicy { identity, removed: Mutex::default() });
        let peers = Peers::new(net.host(host), Arc::clone(&policy) as Arc<dyn Policy>, tasks.clone());
        let listener = net.listen(host, address).await;
        let address = listener.local_address();
        let handler = Arc::new(TestHandler::new(policy.identity.node_id));
        peers.serve(listener, Arc::clone(&handler) as Arc<dyn Handler>);
        Self { peers, tasks, address, handler, policy }
    }

    /// Tells this node where another is.
    fn knows(&self, other: &Self) -> &Self {
        self.peers.set_address(other.policy.identity.node_id, &other.address).expect("few nodes");
        self
    }

    async fn ask(&self, to: u64, words: &str) -> Result<String, PeerError> {
        self.peers.call(to, read(words, 0), SOON).await.map(|response| page(response).0)
    }
}

/// Two nodes, 1 and 2, where 1 knows 2.
async fn pair(net: &Net) -> (Node, Node) {
    let (one, two) = (Node::start(net, 1).await, Node::start(net, 2).await);
    one.knows(&two);
    (one, two)
}

/// Something to ask: the words say how it is answered, `padding` bytes longer.
pub(super) fn read(words: &str, padding: u64) -> Request {
    let chain = ChainId { workflow_id: words.into(), ..ChainId::default() };
    let call = ChainCall { chain: Some(chain), generation: padding, ..ChainCall::default() };
    Request { timeout_ms: 0, kind: Some(request::Kind::Chain(call.into())) }
}

fn status() -> Request {
    Request { timeout_ms: 0, kind: Some(request::Kind::Status(StatusRequest {})) }
}

/// The words and the padding of an answer.
pub(super) fn page(response: Response) -> (String, usize) {
    let Some(response::Kind::Status(StatusReply { node: Some(node), .. })) = response.kind else {
        panic!("not an answer of the test's handler: {response:?}")
    };
    (node.name, node.shedding.len())
}

pub(super) fn hint(number: u64) -> Notice {
    let hint = LeaderHint { group_id: number, ..LeaderHint::default() };
    Notice { kind: Some(notice::Kind::LeaderHint(hint)) }
}

/// Answers with what it was asked. Words that begin with "hold" wait to be released, "panic" panics,
/// "fail" fails.
#[derive(Debug)]
pub(super) struct TestHandler {
    node_id: u64,
    pub(super) notices: watch::Sender<Vec<u64>>,
    /// Words of all requests and Raft messages, when their handling began.
    pub(super) begun: watch::Sender<Vec<String>>,
    /// Requests whose future was dropped before it was done.
    pub(super) dropped: watch::Sender<Vec<String>>,
    pub(super) callers: Mutex<Vec<PeerIdentity>>,
    pub(super) timeouts_ms: Mutex<Vec<u64>>,
    pub(super) release: watch::Sender<bool>,
}

impl TestHandler {
    fn new(node_id: u64) -> Self {
        Self {
            node_id,
            notices: watch::Sender::default(),
            begun: watch::Sender::default(),
            dropped: watch::Sender::default(),
            callers: Mutex::default(),
            timeouts_ms: Mutex::default(),
            release: watch::Sender::default(),
        }
    }

    fn answer(&self, words: String) -> impl Future<Output = Result<String, String>> + Send + use<> {
        let (begun, mut release) = (self.begun.clone(), self.release.subscribe());
        let mut unfinished = Unfinished { words: Some(words.clone()), dropped: self.dropped.clone() };
        async move {
            if !words.is_empty() {
                begun.send_modify(|begun| begun.push(words.clone()));
            }
            if words.starts_with("hold") {
                release.wait_for(|released| *released).await.expect("the handler lives");
            }
            unfinished.done();
            assert!(!words.starts_with("panic"), "the handler was asked to panic");
            if words.starts_with("fail") { Err(words) } else { Ok(words) }
        }
    }
}

struct Unfinished {
    words: Option<String>,
    dropped: watch::Sender<Vec<String>>,
}

impl Unfinished {
    fn done(&mut self) {
        self.words = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(words) = self.words.take() {
            self.dropped.send_modify(|dropped| dropped.push(words));
        }
    }
}

impl Handler for TestHandler {
    fn request(&self, from: PeerIdentity, request: Request) -> BoxFuture<'static, Response> {
        self.callers.lock().push(from);
        self.timeouts_ms.lock().push(request.timeout_ms);
        let node_id = self.node_id;
        let (words, padding) = match request.kind {
            Some(request::Kind::Chain(call)) => (call.chain.expect("words").workflow_id, call.generation as usize),
            _ => (String::new(), 0),
        };
        let answer = self.answer(words);
        async move {
            let name = answer.await.unwrap_or_else(|why| why);
            let node = NodeStatus { node_id, name, shedding: "p".repeat(padding), ..NodeStatus::default() };
            let status = StatusReply { node: Some(node), ..StatusReply::default() };
            Response { kind: Some(response::Kind::Status(status)) }
        }
        .boxed()
    }

    fn notice(&self, _: &PeerIdentity, notice: Notice) {
        let Some(notice::Kind::LeaderHint(hint)) = notice.kind else { panic!("not a hint: {notice:?}") };
        self.notices.send_modify(|notices| notices.push(hint.group_id));
    }

    fn raft(&self, _: &PeerIdentity, _: Lane, message: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let words = String::from_utf8_lossy(message.get(..16).unwrap_or(&message)).into_owned();
        let answer = self.answer(words);
        async move { answer.await.map(|_| message) }.boxed()
    }
}

/// Waits until what a watch shows is as wanted.
async fn until<T>(watched: &watch::Sender<T>, wanted: impl FnMut(&T) -> bool) {
    timeout(SOON, watched.subscribe().wait_for(wanted)).await.expect("in time").expect("the sender lives");
}

/// Repeats a call while the former connection is on its way out.
async fn settled(node: &Node, to: u64, words: &str) -> Result<String, PeerError> {
    let attempts = async {
        loop {
            match node.ask(to, words).await {
                Err(PeerError::NotSent(_) | PeerError::Lost(_)) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    timeout(SOON, attempts).await.expect("settles in time")
}

/// Repeats a call until it succeeds.
async fn eventually(node: &Node, to: u64, words: &str) {
    let attempts = async {
        while node.ask(to, words).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, attempts).await.expect("succeeds in time");
}
