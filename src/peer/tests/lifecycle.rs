//! Connections that break, nodes that die, come back, move and are removed.

use std::io;

use tokio::time::Instant;

use super::*;

/// Ends a node as a crash would: its tasks stop, its connections close.
fn kill(node: &Node) {
    node.tasks.stop();
}

over_both!(a_call_to_a_node_that_dies_is_lost, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let call = one.peers.call(2, read("hold", 0), SOON);
    let raft = one.peers.raft_call(2, Lane::append(1), "hold".into(), SOON);
    until(&two.handler.begun, |begun| begun.len() == 2).await;
    kill(&two);
    let (call, raft) = (call.await.expect_err("dead"), raft.await.expect_err("dead"));
    assert!(matches!(call, PeerError::Lost(_)) && call.outcome_unknown(), "{call:?}");
    assert!(matches!(raft, PeerError::Lost(_)) && raft.outcome_unknown(), "{raft:?}");
    // A dropped connection drops what ran for it.
    until(&two.handler.dropped, |dropped| dropped.len() == 2).await;
});

over_both!(a_dead_node_is_unreachable_at_once, |net: Net| async move {
    let (one, two) = pair(&net).await;
    kill(&two);
    // The listener goes when its task has ended.
    let unreachable = async {
        while !matches!(one.ask(2, "hello").await, Err(PeerError::Unreachable(_))) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, unreachable).await.expect("in time");
    let error = one.ask(2, "hello").await.expect_err("dead");
    assert!(!error.outcome_unknown() && error.to_string().contains(&two.address), "{error}");
    let unknown = one.ask(5, "hello").await.expect_err("unknown");
    assert_eq!(unknown, PeerError::Unreachable("node 5 is not known".into()));
});

over_both!(a_node_that_comes_back_is_reached_again, |net: Net| async move {
    let (one, two) = pair(&net).await;
    assert!(one.ask(2, "hello").await.is_ok());
    kill(&two);
    let again = Identity { incarnation: 2, boot: 8, ..identity(2) };
    let restarted = async {
        // The port is free when the old listener's task has ended.
        loop {
            match net.host("n2").listen(&two.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    drop(timeout(SOON, restarted).await.expect("the port is free"));
    let two = Node::start_as(&net, "n2", again, Some(&two.address)).await;
    eventually(&one, 2, "hello again").await;
    assert!(two.handler.begun.borrow().contains(&"hello again".into()));
});

over_both!(a_node_that_stops_answers_its_own_callers, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let call = one.peers.call(2, read("hold", 0), SOON);
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    one.tasks.stop();
    assert!(matches!(call.await, Err(PeerError::Lost(_))));
    assert!(matches!(one.ask(2, "hello").await, Err(PeerError::Unreachable(_))));
});

over_both!(a_node_that_moves_is_found, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let call = one.peers.call(2, read("hold", 0), SOON);
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    let moved = Identity { incarnation: 2, ..identity(2) };
    let moved = Node::start_as(&net, "elsewhere", moved, None).await;
    one.knows(&moved);
    assert_eq!(one.peers.address(2).as_deref(), Some(&*moved.address));
    assert!(matches!(call.await, Err(PeerError::Lost(why)) if why.contains("another address")));
    eventually(&one, 2, "found").await;
    assert!(moved.handler.begun.borrow().contains(&"found".into()));
});

over_both!(a_removed_node_is_cut_off_in_both_directions, |net: Net| async move {
    let (one, two) = pair(&net).await;
    two.knows(&one);
    let outward = one.peers.call(2, read("hold", 0), SOON);
    let inward = two.peers.call(1, read("hold", 0), SOON);
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    until(&one.handler.begun, |begun| begun.len() == 1).await;
    one.policy.removed.lock().insert(2);
    one.peers.remove(2);
    assert!(matches!(outward.await, Err(PeerError::Lost(why)) if why.contains("removed")));
    assert!(matches!(inward.await, Err(PeerError::Lost(_))));
    assert!(matches!(one.ask(2, "hello").await, Err(PeerError::Unreachable(_))));
    let refused = async {
        while !matches!(two.ask(1, "hello").await, Err(PeerError::Refused(_))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, refused).await.expect("in time");
});

#[tokio::test(start_paused = true)]
async fn what_was_not_written_was_surely_not_sent() {
    let model = Model::new(3);
    let (one, two) = pair(&Net::Model(model.clone())).await;
    let lane = Lane::append(1);
    assert!(one.peers.raft_call(2, lane, "connect".into(), SOON).await.is_ok());
    model.cut("n1", "n2");
    // Far more than the stream takes: the writer is stuck with it.
    let mut written = Box::pin(one.peers.raft_call(2, lane, Bytes::from(vec![0; 4 << 20]), SOON));
    assert!(timeout(Duration::from_millis(100), &mut written).await.is_err());
    let queued = one.peers.raft_call(2, lane, "queued".into(), SOON);
    model.reset("n1", "n2");
    let (written, queued) = (written.await.expect_err("reset"), queued.await.expect_err("reset"));
    assert!(matches!(&written, PeerError::Lost(_)) && written.outcome_unknown(), "{written:?}");
    assert!(matches!(&queued, PeerError::NotSent(_)) && !queued.outcome_unknown(), "{queued:?}");
    assert_eq!(two.handler.begun.borrow().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_and_healed() {
    for (from, to) in [("n1", "n2"), ("n2", "n1")] {
        let model = Model::new(3);
        let (one, two) = pair(&Net::Model(model.clone())).await;
        assert!(one.ask(2, "hello").await.is_ok());
        model.cut(from, to);
        let start = Instant::now();
        let lost = one.peers.call(2, read("hold", 0), Duration::from_secs(600)).await;
        assert!(matches!(&lost, Err(PeerError::Lost(_))), "{lost:?}");
        assert!(start.elapsed() < Duration::from_millis(2_600), "{:?}", start.elapsed());
        // A minute later it heals, and everything is well within a moment, not within TCP's.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(one.ask(2, "cut off").await.is_err());
        model.heal(from, to);
        let healed = Instant::now();
        eventually(&one, 2, "well again").await;
        assert!(healed.elapsed() < Duration::from_millis(1_500), "{:?}", healed.elapsed());
        assert!(two.handler.begun.borrow().contains(&"well again".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moves_while_it_is_dialled_is_found_at_once() {
    let model = Model::new(3);
    let (one, two) = pair(&Net::Model(model.clone())).await;
    one.peers.set_address(2, "nowhere:1").expect("few nodes");
    model.cut("n1", "nowhere");
    let call = tokio::spawn(one.peers.call(2, read("too early", 0), SOON));
    tokio::time::sleep(Duration::from_millis(100)).await;
    one.knows(&two);
    let answer = call.await.expect("no panic");
    assert!(matches!(answer, Err(PeerError::Unreachable(_))));
    assert_eq!(one.ask(2, "found").await, Ok("found".into()));
}

#[tokio::test(start_paused = true)]
async fn whoever_connects_is_dialled_without_a_pause() {
    let net = Net::Model(Model::new(3));
    let one = Node::start(&net, 1).await;
    one.peers.set_address(2, "n2:1").expect("few nodes");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert!(one.ask(2, "nobody listens").await.is_err());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let two = Node::start_as(&net, "n2", identity(2), Some("n2:1")).await;
    assert!(one.ask(2, "too early").await.is_err(), "it waits for up to a second");
    two.knows(&one);
    assert!(two.ask(1, "here I am").await.is_ok());
    assert_eq!(one.ask(2, "found").await, Ok("found".into()));
}

#[tokio::test(start_paused = true)]
async fn a_clog_delays_and_loses_nothing() {
    let model = Model::new(3);
    let (one, two) = pair(&Net::Model(model.clone())).await;
    assert!(one.ask(2, "hello").await.is_ok());
    model.clog("n1", "n2");
    let call = one.peers.call(2, read("through the clog", 0), SOON);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(two.handler.begun.borrow().len(), 1);
    model.heal("n1", "n2");
    assert_eq!(page(call.await.expect("answered")).0, "through the clog");
}

#[tokio::test(start_paused = true)]
async fn latency_is_what_was_asked_for() {
    let model = Model::new(3);
    let (one, _two) = pair(&Net::Model(model.clone())).await;
    let (there, back) = (Duration::from_millis(30), Duration::from_millis(70));
    model.set_latency("n1", "n2", there..=there);
    model.set_latency("n2", "n1", back..=back);
    assert!(one.ask(2, "connect").await.is_ok());
    let start = Instant::now();
    assert!(one.ask(2, "hello").await.is_ok());
    assert!((100..=103).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_lives_on_and_is_heard() {
    let (one, two) = pair(&Net::Model(Model::new(3))).await;
    let call = tokio::spawn(one.peers.call(2, read("hold", 0), Duration::from_secs(3_000)));
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    for (node, other) in [(&one, 2), (&two, 1)] {
        assert!(node.peers.last_heard(other).expect("heard").elapsed() <= Duration::from_millis(600));
    }
    two.handler.release.send_replace(true);
    assert!(call.await.expect("no panic").is_ok());
}

/// A network in which nobody answers; it notes when it was asked.
#[derive(Debug, Default)]
struct Nobody {
    dialled: Mutex<Vec<Instant>>,
}

impl Network for Nobody {
    fn listen(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }

    fn connect(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        self.dialled.lock().push(Instant::now());
        async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn dialling_backs_off_and_calls_fail_at_once_meanwhile() {
    let network = Arc::new(Nobody::default());
    let policy = Arc::new(TestPolicy { identity: identity(1), removed: Mutex::default() });
    let peers = Peers::new(Arc::clone(&network) as Arc<dyn Network>, policy, Tasks::single_threaded());
    peers.set_address(2, "nobody:1").expect("few nodes");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        let answer = peers.call(2, read("hello", 0), SOON).await;
        assert!(matches!(answer, Err(PeerError::Unreachable(_))));
        assert_eq!(asked.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let dialled = network.dialled.lock().clone();
    let pauses = dialled.iter().zip(dialled.iter().skip(1)).map(|(a, b)| (*b - *a).as_millis()).collect::<Vec<_>>();
    assert!(pauses.starts_with(&[50, 100, 200, 400, 800, 1_000, 1_000]), "{pauses:?}");
    // A new address is tried at once.
    peers.set_address(2, "somebody:1").expect("few nodes");
    assert!(peers.call(2, read("hello", 0), SOON).await.is_err());
    assert_eq!(network.dialled.lock().len(), dialled.len() + 1);
}
