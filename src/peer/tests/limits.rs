//! What is bounded, and what is gathered into one write.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::peer::outbox::{GATHER_FRAMES, GATHER_TIME};

/// Node 1, and node 2 which can't be reached but is being dialled.
async fn cut_off(model: &Model) -> (Node, Node) {
    let net = Net::Model(model.clone());
    let (one, two) = pair(&net).await;
    model.cut("n1", "n2");
    (one, two)
}

#[tokio::test(start_paused = true)]
async fn a_queue_holds_so_many_frames() {
    let model = Model::new(1);
    let (one, two) = cut_off(&model).await;
    let limits = Lane::Snapshot.limits();
    let send = || one.peers.raft_call(2, Lane::Snapshot, "chunk".into(), SOON);
    let mut calls: Vec<_> = (0..limits.queued_frames_max).map(|_| Box::pin(send())).collect();
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    assert!(matches!(send().await, Err(PeerError::Busy(_))));
    // Other lanes have room.
    let other = one.peers.raft_call(2, Lane::Control, "vote".into(), SOON);
    model.heal("n1", "n2");
    assert!(other.await.is_ok());
    for call in calls {
        assert_eq!(call.await, Ok("chunk".into()));
    }
    assert_eq!(two.handler.begun.borrow().len(), limits.queued_frames_max + 1);
}

#[tokio::test(start_paused = true)]
async fn a_queue_holds_so_many_bytes_but_always_one_frame() {
    let (one, _two) = cut_off(&Model::new(1)).await;
    let largest = Bytes::from(vec![0; Lane::Snapshot.limits().queued_bytes_max]);
    let first = one.peers.raft_call(2, Lane::Snapshot, largest, SOON);
    let second = one.peers.raft_call(2, Lane::Snapshot, "one more".into(), SOON).await;
    assert_eq!(second, Err(PeerError::Busy("to be sent")));
    assert!(matches!(first.await, Err(PeerError::Unreachable(_))));
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_are_bounded_and_given_up_ones_do_not_count() {
    let net = Net::Model(Model::new(1));
    let (one, two) = pair(&net).await;
    let calls_max = Lane::Snapshot.limits().calls_max;
    let send = || one.peers.raft_call(2, Lane::Snapshot, "hold".into(), SOON);
    let mut calls = Vec::new();
    for number in 1..=calls_max {
        calls.push(send());
        until(&two.handler.begun, |begun| begun.len() == number).await;
    }
    assert_eq!(send().await, Err(PeerError::Busy("to be answered")));
    drop(calls.pop());
    let last = one.peers.raft_call(2, Lane::Snapshot, "goes".into(), Duration::from_secs(1)).await;
    // The other side still works on the one that was given up.
    assert_eq!(last, Err(PeerError::Busy("at the other node")));
    two.handler.release.send_replace(true);
    for call in calls {
        assert!(call.await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_given_up_leave_the_queue() {
    let model = Model::new(1);
    let (one, two) = cut_off(&model).await;
    let frames_max = Lane::Calls.limits().queued_frames_max;
    for _ in 0..3 * frames_max {
        drop(one.peers.call(2, read("abandoned", 0), SOON));
    }
    let timed_out = one.peers.call(2, read("timed out", 0), Duration::from_millis(10)).await;
    assert_eq!(timed_out, Err(PeerError::TimedOut { sent: false }));
    let wanted = one.peers.call(2, read("wanted", 0), SOON);
    model.heal("n1", "n2");
    assert_eq!(page(wanted.await.expect("answered")).0, "wanted");
    assert_eq!(*two.handler.begun.borrow(), ["wanted"]);
}

/// A network that counts what its streams write.
#[derive(Debug)]
struct Counting {
    network: Arc<dyn Network>,
    writes: Arc<AtomicUsize>,
}

impl Network for Counting {
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        self.network.listen(address)
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let (connecting, writes) = (self.network.connect(address), Arc::clone(&self.writes));
        async move { Ok(Box::new(CountingStream { stream: connecting.await?, writes }) as Box<dyn ByteStream>) }.boxed()
    }
}

#[derive(Debug)]
struct CountingStream {
    stream: Box<dyn ByteStream>,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for CountingStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CountingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Node 1 with a counting network, and node 2.
async fn counted(net: &Net) -> (Node, Node, Arc<AtomicUsize>) {
    let (mut one, two) = (Node::start(net, 1).await, Node::start(net, 2).await);
    let writes = Arc::new(AtomicUsize::new(0));
    let counting = Counting { network: net.host("n1"), writes: Arc::clone(&writes) };
    let policy = Arc::clone(&one.policy) as Arc<dyn Policy>;
    one.peers = Peers::new(Arc::new(counting), policy, one.tasks.clone());
    one.knows(&two);
    (one, two, writes)
}

over_both!(what_waits_together_is_written_together, |net: Net| async move {
    let (one, two, writes) = counted(&net).await;
    for number in 0..1_000 {
        one.peers.notify(2, hint(number)).expect("queued");
    }
    until(&two.handler.notices, |notices| notices.len() == 1_000).await;
    // The Hello, the notices, the rest of a short write now and then.
    assert!(writes.load(Ordering::Relaxed) <= 8, "{writes:?}");
});

#[tokio::test(start_paused = true)]
async fn heartbeats_of_many_groups_share_writes() {
    const BEATS: usize = 500;
    let net = Net::Model(Model::new(1));
    let (one, two, writes) = counted(&net).await;
    let start = tokio::time::Instant::now();
    let mut calls = Vec::new();
    for group in 0..BEATS {
        calls.push(one.peers.raft_call(2, Lane::Control, format!("{group}").into(), SOON));
        tokio::time::advance(GATHER_TIME / 50).await;
        tokio::task::yield_now().await;
    }
    for call in calls {
        assert!(call.await.is_ok());
    }
    assert_eq!(two.handler.begun.borrow().len(), BEATS);
    let (writes, windows) = (writes.load(Ordering::Relaxed), BEATS / 50);
    assert!(writes <= 3 * windows + GATHER_FRAMES, "{writes} writes in {windows} windows");
    assert!(start.elapsed() <= GATHER_TIME * (windows as u32 + 3));
}

#[tokio::test(start_paused = true)]
async fn a_few_control_messages_wait_for_nothing() {
    let net = Net::Model(Model::new(1));
    let (one, _two) = pair(&net).await;
    assert!(one.peers.raft_call(2, Lane::Control, "connect".into(), SOON).await.is_ok());
    for _ in 0..20 {
        let start = tokio::time::Instant::now();
        assert!(one.peers.raft_call(2, Lane::Control, "beat".into(), SOON).await.is_ok());
        // Two hops of at most 300 µs; tokio's timers round up to the millisecond.
        assert!(start.elapsed() <= Duration::from_millis(2), "{:?}", start.elapsed());
    }
}
