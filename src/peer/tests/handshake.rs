//! Who is let in, and what those are told who are not.

use super::*;

/// What node 1 is told when it calls node 2, after `change` was made to what it says of itself.
async fn told(net: &Net, change: impl FnOnce(&mut Identity)) -> Result<String, PeerError> {
    let two = Node::start(net, 2).await;
    let mut me = identity(1);
    change(&mut me);
    let one = Node::start_as(net, "n1", me, None).await;
    one.knows(&two).ask(2, "hello").await
}

fn refused(why: &str) -> Result<String, PeerError> {
    Err(PeerError::Refused(why.into()))
}

over_both!(another_cluster_is_refused, |net: Net| async move {
    let answer = told(&net, |me| me.cluster_id = "red".into()).await;
    assert_eq!(answer, refused("cluster red is another cluster than blue"));
});

over_both!(a_nodes_own_id_is_refused, |net: Net| async move {
    let answer = told(&net, |me| me.node_id = 2).await;
    assert_eq!(answer, refused("both sides are node 2: an address is wrong, or a data directory was copied"));
});

over_both!(a_wrong_address_is_noticed, |net: Net| async move {
    let (one, three) = (Node::start(&net, 1).await, Node::start(&net, 3).await);
    one.peers.set_address(2, &three.address).expect("few nodes");
    assert_eq!(one.ask(2, "hello").await, refused("expected node 2 at this address, but it is node 3"));
    let new = Identity { cluster_id: String::new(), node_id: 0, incarnation: 1, boot: 0 };
    let unjoined = Node::start_as(&net, "new", new, None).await;
    one.peers.set_address(4, &unjoined.address).expect("few nodes");
    let answer = one.ask(4, "hello").await;
    assert_eq!(answer, refused("expected node 4 at this address, but it is a node that has not joined"));
});

over_both!(a_removed_node_is_refused, |net: Net| async move {
    let (one, two) = pair(&net).await;
    two.policy.removed.lock().insert(1);
    let words = "node 1 was removed from the cluster and must join under a new id";
    assert_eq!(one.ask(2, "hello").await, refused(words));
    // Nor does anybody call one that was removed.
    let three = Node::start(&net, 3).await;
    three.policy.removed.lock().insert(2);
    let words = "node 2 was removed from the cluster and must join under a new id";
    assert_eq!(three.knows(&two).ask(2, "hello").await, refused(words));
});

over_both!(an_older_incarnation_is_refused, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    let newer = Identity { incarnation: 7, boot: 70, ..identity(1) };
    let newer = Node::start_as(&net, "n1", newer, None).await;
    assert!(newer.knows(&two).ask(2, "hello").await.is_ok());
    let older = Identity { incarnation: 6, boot: 60, ..identity(1) };
    let older = Node::start_as(&net, "copy", older, None).await;
    let words = "node 1 is already known in incarnation 7; incarnation 6 has the data directory of an earlier time";
    assert_eq!(older.knows(&two).ask(2, "hello").await, refused(words));
    let twin = Identity { incarnation: 7, boot: 71, ..identity(1) };
    let twin = Node::start_as(&net, "twin", twin, None).await;
    let words = "node 1 already runs as another process; this one has a copy of its data directory";
    assert_eq!(twin.knows(&two).ask(2, "hello").await, refused(words));
    assert!(newer.ask(2, "hello").await.is_ok());
});

over_both!(the_dialler_checks_too, |net: Net| async move {
    let (one, two) = pair(&net).await;
    assert!(one.ask(2, "hello").await.is_ok());
    let older = Identity { incarnation: 0, ..identity(2) };
    let older = Node::start_as(&net, "copy", older, None).await;
    one.knows(&older);
    let answer = settled(&one, 2, "hello").await;
    assert!(matches!(answer, Err(PeerError::Refused(why)) if why.contains("incarnation 1; incarnation 0")));
    one.knows(&two);
    assert!(settled(&one, 2, "hello").await.is_ok());
});

over_both!(a_newer_process_ends_the_connections_of_the_older, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let call = tokio::spawn(one.peers.call(2, read("hold", 0), SOON));
    until(&two.handler.begun, |begun| begun.len() == 1).await;
    let newer = Identity { incarnation: 2, boot: 5, ..identity(1) };
    let newer = Node::start_as(&net, "n1 again", newer, None).await;
    assert!(newer.knows(&two).ask(2, "hello").await.is_ok());
    assert!(matches!(call.await.expect("no panic"), Err(PeerError::Lost(_))));
    assert!(matches!(one.ask(2, "hello").await, Err(PeerError::NotSent(_) | PeerError::Refused(_))));
});

over_both!(who_has_not_joined_may_only_ask_to, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    let new = Identity { cluster_id: String::new(), node_id: 0, incarnation: 1, boot: 0 };
    let new = Node::start_as(&net, "new", new, None).await;
    assert!(new.peers.call_address(&two.address, status(), SOON).await.is_ok());
    let join = request::Kind::Join(bristlecone_proto::node::JoinRequest::default());
    let join = Request { timeout_ms: 0, kind: Some(join) };
    assert!(new.peers.call_address(&two.address, join, SOON).await.is_ok());
    let words = "only a node of the same cluster may ask that";
    let answer = new.peers.call_address(&two.address, read("secret", 0), SOON).await;
    assert_eq!(answer, Err(PeerError::Refused(words.into())));
    // The same the other way round: nobody trusts a node that has not joined.
    let answer = two.peers.call_address(&new.address, read("secret", 0), SOON).await;
    assert_eq!(answer, Err(PeerError::Refused(words.into())));
    assert!(two.peers.call_address(&new.address, status(), SOON).await.is_ok());
    // Raft messages and notices end the connection.
    let raft = new.knows(&two).peers.raft_call(2, Lane::Control, "vote".into(), SOON).await;
    assert!(matches!(raft, Err(PeerError::Lost(_))), "{raft:?}");
    new.peers.notify(2, hint(1)).expect("queued");
    assert!(new.ask(2, "secret").await.is_err());
    assert!(two.handler.begun.borrow().is_empty() && two.handler.notices.borrow().is_empty());
});
