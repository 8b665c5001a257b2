//! Calls, notices and Raft messages between two healthy nodes.

use super::*;
use crate::peer::frame::{Kind, PAYLOAD_BYTES_MAX};

over_both!(a_call_is_answered, |net: Net| async move {
    let (one, two) = pair(&net).await;
    assert_eq!(one.ask(2, "hello").await, Ok("hello".into()));
    let caller = two.handler.callers.lock().first().cloned().expect("called");
    assert_eq!((caller.node_id, caller.incarnation, &*caller.version), (1, 1, env!("CARGO_PKG_VERSION")));
    assert!(one.peers.last_heard(2).is_some() && two.peers.last_heard(1).is_some());
    assert_eq!(one.peers.last_heard(3), None);
});

over_both!(a_call_by_address_needs_no_id, |net: Net| async move {
    let (one, two) = (Node::start(&net, 1).await, Node::start(&net, 2).await);
    let response = one.peers.call_address(&two.address, status(), SOON).await.expect("answered");
    let Some(response::Kind::Status(status)) = response.kind else { panic!("no status") };
    assert_eq!(status.node.expect("a node").node_id, 2);
});

over_both!(a_slow_call_by_address_stays_connected, |net: Net| async move {
    let (one, two) = (Node::start(&net, 1).await, Node::start(&net, 2).await);
    let call = tokio::spawn(one.peers.call_address(&two.address, read("hold", 0), SOON));
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    two.handler.release.send_replace(true);
    assert_eq!(page(call.await.expect("no panic").expect("answered")).0, "hold");
});

over_both!(notices_arrive_in_order, |net: Net| async move {
    let (one, two) = pair(&net).await;
    for number in 0..5_000 {
        one.peers.notify(2, hint(number)).expect("queued");
    }
    until(&two.handler.notices, |notices| notices.len() == 5_000).await;
    assert!(two.handler.notices.borrow().iter().copied().eq(0..5_000));
});

over_both!(big_messages_pass, |net: Net| async move {
    let (one, _two) = pair(&net).await;
    let words = "x".repeat(20 << 20);
    let response = one.peers.call(2, read(&words, 40 << 20), SOON).await.expect("answered");
    assert!(page(response) == (words, 40 << 20));
    let message = Bytes::from(vec![b'y'; PAYLOAD_BYTES_MAX]);
    let answer = one.peers.raft_call(2, Lane::Snapshot, message.clone(), SOON).await;
    assert!(answer == Ok(message));
});

over_both!(too_big_a_message_is_refused_where_it_starts, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let bytes = PAYLOAD_BYTES_MAX + 1;
    let answer = one.peers.raft_call(2, Lane::AppendEven, Bytes::from(vec![0; bytes]), SOON).await;
    assert_eq!(answer, Err(PeerError::TooLarge { bytes, bytes_max: PAYLOAD_BYTES_MAX }));
    let bytes_max = Kind::Request.payload_bytes_max();
    let long = read(&"x".repeat(bytes_max), 0);
    for answer in [one.peers.call(2, long.clone(), SOON).await, one.peers.call_address(&two.address, long, SOON).await]
    {
        assert!(matches!(answer, Err(PeerError::TooLarge { bytes, .. }) if bytes > bytes_max));
    }
    let answer = one.peers.call(2, read("long answer", PAYLOAD_BYTES_MAX as u64), SOON).await;
    assert!(matches!(answer, Err(PeerError::Failed(why)) if why.contains("its answer is a message of 67108")));
    assert_eq!(one.ask(2, "and then").await, Ok("and then".into()));
});

over_both!(answers_come_in_any_order, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let first = one.peers.call(2, read("hold", 0), SOON);
    let second = one.peers.call(2, read("quick", 0), SOON);
    assert_eq!(page(second.await.expect("answered")).0, "quick");
    assert_eq!(*two.handler.begun.borrow(), ["hold", "quick"]);
    two.handler.release.send_replace(true);
    assert_eq!(page(first.await.expect("answered")).0, "hold");
});

over_both!(a_callers_time_is_carried_and_kept, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let answer = one.peers.call(2, read("hold", 0), Duration::from_millis(300)).await;
    assert_eq!(answer, Err(PeerError::TimedOut { sent: true }));
    let timeout_ms = two.handler.timeouts_ms.lock().first().copied().expect("called");
    assert!((1..=300).contains(&timeout_ms));
    // The other side gives up by itself.
    until(&two.handler.dropped, |dropped| dropped.len() == 1).await;
    assert_eq!(one.ask(2, "next").await, Ok("next".into()));
});

over_both!(a_dropped_call_is_given_up_at_the_other_side, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let mut call = Box::pin(one.peers.call(2, read("hold", 0), SOON));
    assert!(futures::poll!(&mut call).is_pending());
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    drop(call);
    until(&two.handler.dropped, |dropped| dropped.len() == 1).await;
    assert_eq!(one.ask(2, "next").await, Ok("next".into()));
});

over_both!(raft_messages_begin_in_the_order_of_calling, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let words =
        |number: u32| if number.is_multiple_of(3) { format!("hold {number:04}") } else { format!("{number:04}") };
    let mut calls = Vec::new();
    for number in 0..1_000 {
        calls.push(one.peers.raft_call(2, Lane::append(7), words(number).into(), SOON));
    }
    until(&two.handler.begun, |begun| begun.len() == 1_000).await;
    assert!(two.handler.begun.borrow().iter().cloned().eq((0..1_000).map(words)));
    two.handler.release.send_replace(true);
    for (number, answer) in (0..).zip(futures::future::join_all(calls).await) {
        assert_eq!(answer, Ok(words(number).into()));
    }
});

over_both!(a_raft_message_is_sent_though_nobody_waits, |net: Net| async move {
    let (one, two) = pair(&net).await;
    drop(one.peers.raft_call(2, Lane::Control, "commit".into(), SOON));
    until(&two.handler.begun, |begun| *begun == ["commit"]).await;
});

over_both!(a_failing_handler_says_so, |net: Net| async move {
    let (one, _two) = pair(&net).await;
    let answer = one.peers.raft_call(2, Lane::Control, "fail: no such group".into(), SOON).await;
    assert_eq!(answer, Err(PeerError::Failed("fail: no such gr".into())));
    let answer = one.ask(2, "panic").await;
    assert!(matches!(answer, Err(PeerError::Failed(why)) if why.contains("unanswered")));
    let unknown = one.peers.call(2, Request::default(), SOON).await;
    assert!(matches!(unknown, Err(PeerError::Refused(why)) if why.contains("does not know")));
    assert_eq!(one.ask(2, "still there").await, Ok("still there".into()));
});

#[tokio::test(start_paused = true)]
async fn a_lane_does_not_wait_for_another() {
    let net = Net::Model(Model::new(1));
    let (one, two) = pair(&net).await;
    let bulk = one.peers.raft_call(2, Lane::Snapshot, Bytes::from(vec![0; PAYLOAD_BYTES_MAX]), SOON);
    let quick = one.peers.raft_call(2, Lane::Control, "beat".into(), SOON);
    assert_eq!(quick.await, Ok("beat".into()));
    assert_eq!(*two.handler.begun.borrow(), ["beat"]);
    assert!(bulk.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn raft_groups_talk_through_their_own_seam() {
    use bristlecone_raft::{Lane as RaftLane, Transport, TransportError};

    let model = Model::new(1);
    let (one, two) = pair(&Net::Model(model.clone())).await;
    let transport: Arc<dyn Transport> = Arc::new(one.peers.clone());
    for lane in [RaftLane::Control, RaftLane::Append { group: 3 }, RaftLane::Append { group: 4 }, RaftLane::Snapshot] {
        assert_eq!(Lane::from(Lane::from(lane).for_raft()), Lane::from(lane));
        assert_eq!(transport.call(2, lane, "payload".into(), SOON).await, Ok("payload".into()));
    }
    let held = transport.call(2, RaftLane::Control, "hold".into(), Duration::from_millis(100)).await;
    assert_eq!(held, Err(TransportError::Timeout));
    assert_eq!(transport.call(3, RaftLane::Control, "x".into(), SOON).await, Err(TransportError::Unreachable));
    model.reset("n1", "n2");
    assert_eq!(transport.call(2, RaftLane::Control, "x".into(), SOON).await, Err(TransportError::Unreachable));
    // A queued message goes out though its answer was given up.
    drop(transport.call(2, RaftLane::Append { group: 3 }, "commit".into(), SOON));
    until(&two.handler.begun, |begun| begun.last().is_some_and(|words| words == "commit")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_on_many_threads_get_their_own_answers() {
    let (one, two) = pair(&Net::Tcp).await;
    let callers = (0..32).map(|caller| {
        let peers = one.peers.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                let words = format!("{caller} {number}");
                let answer = peers.call(2, read(&words, number % 7 * 1_000), SOON).await;
                assert_eq!(page(answer.expect("answered")).0, words);
                let raft = peers.raft_call(2, Lane::append(caller), words.clone().into(), SOON).await;
                assert_eq!(raft, Ok(words.into()));
                // Given up at once, or soon after it was sent.
                let given_up = peers.call(2, read("hold", 0), Duration::from_micros(number * 10)).await;
                assert!(matches!(given_up, Err(PeerError::TimedOut { .. })));
            }
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.expect("no panic");
    }
    let held = || two.handler.begun.borrow().iter().filter(|words| *words == "hold").count();
    until(&two.handler.dropped, |dropped| dropped.len() == held()).await;
}
