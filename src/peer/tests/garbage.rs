//! What comes to the port from who is no node: it costs the sender his connection and nobody more.

use bristlecone_proto::node::Hello;
use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::peer::frame::{self, Decoder, Frame, Kind};

/// A connection of somebody who speaks as he likes.
struct Stranger {
    stream: Box<dyn ByteStream>,
    decoder: Decoder,
}

impl Stranger {
    async fn connect(net: &Net, node: &Node) -> Self {
        let stream = net.host("stranger").connect(&node.address).await.expect("connects");
        Self { stream, decoder: Decoder::default() }
    }

    /// Connects and shakes hands properly, as node 9.
    async fn greet(net: &Net, node: &Node, lane: Lane) -> Self {
        let mut stranger = Self::connect(net, node).await;
        stranger.say(&hello(lane, 1)).await;
        let answer = stranger.hear().await.expect("a Hello");
        assert_eq!(Hello::decode(answer.payload).expect("a Hello").refused, "");
        stranger
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The other side may have closed already.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next frame; `None` when the connection was closed.
    async fn hear(&mut self) -> Option<Frame> {
        let next = async {
            loop {
                match self.decoder.next().expect("the node speaks properly") {
                    Some(frame) if frame.kind == Kind::Ping => {}
                    Some(frame) => return Some(frame),
                    None => match self.stream.read_buf(self.decoder.room()).await {
                        Ok(0) | Err(_) => return None,
                        Ok(_) => {}
                    },
                }
            }
        };
        timeout(SOON, next).await.expect("in time")
    }
}

fn hello(lane: Lane, protocol: u32) -> BytesMut {
    let hello = Hello {
        protocol,
        cluster_id: "blue".into(),
        node_id: 9,
        incarnation: 1,
        lane: lane.number(),
        ..Hello::default()
    };
    frame_of(Kind::Hello, 0, &hello.encode_to_vec())
}

fn frame_of(kind: Kind, call: u64, payload: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    frame::append(&mut buffer, kind, call, |buffer| buffer.put_slice(payload));
    buffer
}

over_both!(garbage_closes_its_own_connection_only, |net: Net| async move {
    let (one, two) = pair(&net).await;
    let mut huge = frame_of(Kind::Hello, 0, b"");
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let good = hello(Lane::Calls, 1);
    let mut damaged = good.clone();
    *damaged.last_mut().expect("a payload") ^= 1;
    let second_hello = [&good[..], &good].concat();
    let then_garbage = [&good[..], b"then garbage, and more than one header of it"].concat();
    let misplaced = [&good[..], &frame_of(Kind::RaftCall, 1, b"on the wrong lane")].concat();
    let answers = [&good[..], &frame_of(Kind::Response, 1, b"")].concat();
    let strange_notice = [&good[..], &frame_of(Kind::Notice, 1, b"\xff\xff\xff")].concat();
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let strange_hello = frame_of(Kind::Hello, 0, b"\xff\xff\xff\xff").to_vec();
    let bad = [
        http,
        huge.to_vec(),
        damaged.to_vec(),
        second_hello,
        then_garbage,
        misplaced,
        answers,
        strange_notice,
        strange_hello,
        vec![0; 100_000],
        b"x".to_vec(),
    ];
    for bytes in bad {
        let mut stranger = Stranger::connect(&net, &two).await;
        stranger.say(&bytes).await;
        // A Hello may come before the end, but the end comes.
        while stranger.hear().await.is_some() {}
        assert_eq!(one.ask(2, "hello").await, Ok("hello".into()));
    }
});

over_both!(an_old_protocol_is_refused_in_words, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    let mut stranger = Stranger::connect(&net, &two).await;
    stranger.say(&hello(Lane::Calls, 0)).await;
    let answer = Hello::decode(stranger.hear().await.expect("a Hello").payload).expect("a Hello");
    assert_eq!(answer.refused, "protocol 0 is not spoken any more, the oldest is 1 (speaks up to 1)");
    assert_eq!(stranger.hear().await, None);
});

over_both!(a_request_that_is_none_is_refused_and_no_more, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    let mut stranger = Stranger::greet(&net, &two, Lane::Calls).await;
    stranger.say(&frame_of(Kind::Request, 1, b"\xff\xff\xff")).await;
    let answer = stranger.hear().await.expect("an answer");
    assert_eq!((answer.kind, answer.call), (Kind::Error, 1));
    assert!(
        answer.payload.ends_with(b"request not understood: failed to decode Protobuf message: invalid varint")
            || answer.payload.len() > 1
    );
    stranger.say(&frame_of(Kind::Request, 2, &read("fine", 0).encode_to_vec())).await;
    let answer = stranger.hear().await.expect("an answer");
    assert_eq!((answer.kind, answer.call), (Kind::Response, 2));
});

over_both!(an_acceptor_answers_so_many_calls_at_a_time, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    let mut stranger = Stranger::greet(&net, &two, Lane::Snapshot).await;
    let calls_max = Lane::Snapshot.limits().calls_max as u64;
    for call in 1..=calls_max + 1 {
        stranger.say(&frame_of(Kind::RaftCall, call, b"hold")).await;
    }
    let answer = stranger.hear().await.expect("an answer");
    assert_eq!((answer.kind, answer.call, &answer.payload[..]), (Kind::Error, calls_max + 1, &[1][..]));
    two.handler.release.send_replace(true);
    for _ in 0..calls_max {
        assert_eq!(stranger.hear().await.expect("an answer").kind, Kind::RaftAnswer);
    }
    stranger.say(&frame_of(Kind::RaftCall, 99, b"room again")).await;
    assert_eq!(stranger.hear().await.expect("an answer").call, 99);
});

over_both!(a_call_number_is_used_once_at_a_time, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    let mut stranger = Stranger::greet(&net, &two, Lane::Control).await;
    stranger.say(&frame_of(Kind::RaftCall, 1, b"hold")).await;
    stranger.say(&frame_of(Kind::RaftCall, 1, b"hold too")).await;
    assert_eq!(stranger.hear().await.expect("an answer").kind, Kind::Error);
    two.handler.release.send_replace(true);
    assert_eq!(stranger.hear().await.expect("an answer").kind, Kind::RaftAnswer);
});

over_both!(a_silent_connection_is_closed, |net: Net| async move {
    let two = Node::start(&net, 2).await;
    // Before the handshake, and after it.
    let mut stranger = Stranger::connect(&net, &two).await;
    assert_eq!(stranger.hear().await, None);
    let mut stranger = Stranger::greet(&net, &two, Lane::Calls).await;
    assert_eq!(stranger.hear().await, None);
});

over_both!(a_dialler_bears_an_acceptor_that_talks_nonsense, |net: Net| async move {
    let one = Node::start(&net, 1).await;
    let mut listener = net.listen("n9", None).await;
    one.peers.set_address(9, &listener.local_address()).expect("few nodes");
    let call = tokio::spawn(one.peers.call(9, read("hello", 0), SOON));
    let (mut stream, _) = listener.accept().await.expect("dialled");
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
    let answer = call.await.expect("no panic");
    assert!(matches!(answer, Err(PeerError::Unreachable(why)) if why.contains("not frames of this protocol")));
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_bytes_never_hurt_a_node(
        bytes in proptest::collection::vec(any::<u8>(), 1..3_000), greeted in any::<bool>(), framed in any::<bool>()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let net = Net::Model(Model::new(bytes.len() as u64));
            let (one, two) = pair(&net).await;
            let mut stranger = match greeted {
                true => Stranger::greet(&net, &two, Lane::Calls).await,
                false => Stranger::connect(&net, &two).await,
            };
            let bytes = match framed {
                true => frame_of(if greeted { Kind::Request } else { Kind::Hello }, 1, &bytes).to_vec(),
                false => bytes,
            };
            stranger.say(&bytes).await;
            while stranger.hear().await.is_some() {}
            assert_eq!(one.ask(2, "hello").await, Ok("hello".into()));
        });
    }
}
