//! The handshake: who speaks, and whether this node listens.
//!
//! # Contract
//! The first frame in both directions is a `node.Hello`; the dialler's comes first. Both sides check
//! the other's; the acceptor puts its reason to refuse into its Hello and closes, and the dialler
//! reports it. A connection of which one side belongs to no cluster yet is *restricted*: it carries
//! only what leads to joining.
//!
//! # Depends on
//! A [`Policy`], given by the node: who it is, and who was removed.
//!
//! # Used by
//! `link.rs` and `peers.rs` (dial), `serve.rs` (accept).

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::node::Hello;
use bytes::Bytes;
use prost::Message;
use tokio::time::timeout;

use super::error::PeerError;
use super::facts::{Facts, Process};
use super::frame::Kind;
use super::lane::Lane;
use super::network::{ByteStream, Network};
use super::outbox::{Item, Payload};
use super::stream::{Broken, FrameReader, FrameWriter, halves};

/// What this node speaks, and the oldest that it understands. Two nodes speak the lower of theirs.
const PROTOCOL: u32 = 1;
const PROTOCOL_MIN: u32 = 1;
/// Longest wait for a connection, name lookup included.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Longest wait for the other side's Hello.
pub(super) const HELLO_TIME_MAX: Duration = Duration::from_secs(1);

/// What a refusal says when two clusters meet.
pub(super) const ANOTHER_CLUSTER: &str = "is another cluster than";
/// What a refusal says to a node that is a member no more.
pub(super) const REMOVED: &str = "was removed from the cluster";
/// Bytes of a cluster id, version or refusal in a Hello.
const WORD_BYTES_MAX: usize = 1 << 10;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Empty until the node has joined; then `node_id` is 0.
    pub cluster_id: String,
    pub node_id: u64,
    /// Counted up, and stored, at each start with the same data directory, before any dialling.
    pub incarnation: u64,
    /// Random number of this start, to tell copies of a data directory apart; 0 when there is none.
    pub boot: u64,
}

/// What the node knows and the transport has to ask. Must answer at once.
pub trait Policy: Debug + Send + Sync + 'static {
    /// Asked at each handshake: it changes when the node joins.
    fn identity(&self) -> Identity;

    /// Whether a node of this cluster was removed for good.
    fn is_removed(&self, node_id: u64) -> bool;
}

/// Who is at the other end of a connection. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// 0 when it has not joined.
    pub node_id: u64,
    pub incarnation: u64,
    /// Version of its program, for people.
    pub version: Arc<str>,
    /// Where its connection comes from, or goes to, for people.
    pub address: Arc<str>,
}

/// A connection after the handshake.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) reader: FrameReader,
    pub(super) writer: FrameWriter,
    pub(super) peer: PeerIdentity,
    pub(super) process: Process,
    pub(super) lane: Lane,
    /// Whether the dialler knew whom it dialled: it has one such connection per lane.
    pub(super) lasting: bool,
    /// `None` on a restricted connection.
    pub(super) facts: Option<Arc<Facts>>,
}

/// Whom a dialler wants to reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    Node(&'a Arc<Facts>),
    Anyone,
}

/// Connects to `address` and shakes hands.
pub(super) async fn dial(
    network: &dyn Network,
    policy: &dyn Policy,
    address: &Arc<str>,
    wanted: Wanted<'_>,
    lane: Lane,
) -> Result<Connection, PeerError> {
    let unreachable = |why: String| PeerError::Unreachable(format!("{address}: {why}"));
    let stream =
        limited(CONNECT_TIME_MAX, network.connect(address)).await.map_err(|why| unreachable(why.to_string()))?;
    let (mut reader, mut writer) = halves(stream);
    let me = policy.identity();
    let expected = match wanted {
        Wanted::Node(facts) => facts.node_id,
        Wanted::Anyone => 0,
    };
    let hello = limited(HELLO_TIME_MAX, async {
        send(&mut writer, &me, expected, Some(lane), String::new()).await?;
        receive(&mut reader).await
    })
    .await
    .map_err(|broken| unreachable(format!("no handshake: {broken}")))?;
    if !hello.refused.is_empty() {
        return Err(PeerError::Refused(hello.refused));
    }
    let facts = match (judge(&me, policy, &hello), wanted) {
        (Err(why), _) => Err(why),
        (Ok(_), Wanted::Anyone) => Ok(None),
        (Ok(_), Wanted::Node(facts)) if facts.node_id != hello.node_id => {
            Err(format!("{address} is {}, not node {}", described(&hello), facts.node_id))
        }
        (Ok(_), Wanted::Node(facts)) => facts.admit(process(&hello)).map(|()| Some(Arc::clone(facts))),
    }
    .map_err(PeerError::Refused)?;
    Ok(connection(reader, writer, &hello, lane, Arc::clone(address), facts))
}

/// Why a connection is not served.
#[derive(Debug)]
pub(super) enum Unserved {
    /// It was closed without a word, as health checks and port scans do.
    Left,
    /// The reason for the log; the dialler was told, if it said Hello at all.
    Because(String),
}

impl From<Broken> for Unserved {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Closed => Self::Left,
            other => Self::Because(other.to_string()),
        }
    }
}

/// Shakes hands with whoever dialled. `facts_of` finds what is known of a node, or says why it can't.
pub(super) async fn accept(
    stream: Box<dyn ByteStream>,
    address: Arc<str>,
    policy: &dyn Policy,
    facts_of: impl FnOnce(u64) -> Result<Arc<Facts>, String>,
) -> Result<Connection, Unserved> {
    let (mut reader, mut writer) = halves(stream);
    let hello = limited(HELLO_TIME_MAX, receive(&mut reader)).await?;
    let me = policy.identity();
    let verdict = judge_dialler(&me, policy, &hello).and_then(|(lane, standing)| match standing {
        Standing::Restricted => Ok((lane, None)),
        Standing::Member => {
            let facts = facts_of(hello.node_id)?;
            facts.admit(process(&hello))?;
            Ok((lane, Some(facts)))
        }
    });
    let refused = verdict.as_ref().err().cloned().unwrap_or_default();
    let sent = limited(HELLO_TIME_MAX, send(&mut writer, &me, hello.node_id, None, refused)).await;
    match verdict {
        Ok((lane, facts)) => {
            sent?;
            Ok(connection(reader, writer, &hello, lane, address, facts))
        }
        Err(why) => {
            writer.close().await;
            Err(Unserved::Because(format!("refused {}: {why}", described(&hello))))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    /// One of the two has not joined.
    Restricted,
}

/// What an acceptor checks. `Err`: why not, in words for the people at the other end.
fn judge_dialler(me: &Identity, policy: &dyn Policy, hello: &Hello) -> Result<(Lane, Standing), String> {
    let standing = judge(me, policy, hello)?;
    if hello.expected_node_id != 0 && hello.expected_node_id != me.node_id {
        let found = if me.node_id == 0 { "a node that has not joined".into() } else { format!("node {}", me.node_id) };
        return Err(format!("expected node {} at this address, but it is {found}", hello.expected_node_id));
    }
    let lane = Lane::from_number(hello.lane).ok_or_else(|| format!("unknown lane {}", hello.lane))?;
    Ok((lane, standing))
}

/// What both sides check.
fn judge(me: &Identity, policy: &dyn Policy, hello: &Hello) -> Result<Standing, String> {
    if hello.protocol < PROTOCOL_MIN {
        return Err(format!(
            "protocol {} is not spoken any more, the oldest is {PROTOCOL_MIN} (speaks up to {PROTOCOL})",
            hello.protocol
        ));
    }
    let joined = |cluster_id: &str, node_id| !cluster_id.is_empty() && node_id != 0;
    if !joined(&me.cluster_id, me.node_id) || !joined(&hello.cluster_id, hello.node_id) {
        return Ok(Standing::Restricted);
    }
    if hello.cluster_id != me.cluster_id {
        return Err(format!("cluster {} {ANOTHER_CLUSTER} {}", hello.cluster_id, me.cluster_id));
    }
    if hello.node_id == me.node_id {
        return Err(format!("both sides are node {}: an address is wrong, or a data directory was copied", me.node_id));
    }
    if policy.is_removed(hello.node_id) {
        return Err(format!("node {} {REMOVED} and must join under a new id", hello.node_id));
    }
    Ok(Standing::Member)
}

async fn send(
    writer: &mut FrameWriter,
    me: &Identity,
    expected: u64,
    lane: Option<Lane>,
    refused: String,
) -> Result<(), Broken> {
    let hello = Hello {
        protocol: PROTOCOL,
        cluster_id: me.cluster_id.clone(),
        node_id: me.node_id,
        incarnation: me.incarnation,
        expected_node_id: expected,
        lane: lane.map_or(0, Lane::number),
        version: env!("CARGO_PKG_VERSION").into(),
        refused,
        boot: me.boot,
    };
    let hello = Payload::Raw(Bytes::from(hello.encode_to_vec()));
    writer.put(Item::new(Kind::Hello, hello).map_err(|error| Broken::Io(error.to_string()))?);
    writer.flush().await
}

async fn receive(reader: &mut FrameReader) -> Result<Hello, Broken> {
    let frame = reader.next().await?;
    let hello = Hello::decode(frame.payload).map_err(|error| Broken::Io(format!("Hello not understood: {error}")))?;
    // These end up in logs and in the words of a refusal.
    let fine = |word: &str| word.len() <= WORD_BYTES_MAX && !word.contains(char::is_control);
    if !fine(&hello.cluster_id) || !fine(&hello.version) || !fine(&hello.refused) {
        return Err(Broken::Io("Hello not understood: overlong or unprintable words".into()));
    }
    Ok(hello)
}

async fn limited<T, E: Into<Broken>>(limit: Duration, step: impl Future<Output = Result<T, E>>) -> Result<T, Broken> {
    match timeout(limit, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Broken::Io(format!("nothing within {} s", limit.as_secs()))),
    }
}

fn connection(
    mut reader: FrameReader,
    writer: FrameWriter,
    hello: &Hello,
    lane: Lane,
    address: Arc<str>,
    facts: Option<Arc<Facts>>,
) -> Connection {
    let peer = PeerIdentity {
        node_id: hello.node_id,
        incarnation: hello.incarnation,
        version: hello.version.as_str().into(),
        address,
    };
    if let Some(facts) = &facts {
        facts.hear();
    }
    reader.facts.clone_from(&facts);
    let lasting = hello.expected_node_id != 0;
    Connection { reader, writer, peer, process: process(hello), lane, lasting, facts }
}

fn process(hello: &Hello) -> Process {
    Process { incarnation: hello.incarnation, boot: hello.boot }
}

fn described(hello: &Hello) -> String {
    match (hello.node_id, hello.cluster_id.as_str()) {
        (0, _) | (_, "") => "a node that has not joined".into(),
        (node_id, cluster_id) => format!("node {node_id} of cluster {cluster_id}"),
    }
}
