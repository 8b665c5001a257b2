//! The model network itself: bytes in order, breaks where TCP has them.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn connected(model: &Model) -> (Box<dyn ByteStream>, Box<dyn ByteStream>) {
    let mut listener = model.host("b").listen("b:1").await.expect("listens");
    let (near, far) = tokio::join!(async { model.host("a").connect("b:1").await }, listener.accept());
    (near.expect("connects"), far.expect("accepts").0)
}

fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_bytes_and_order_and_has_an_end() {
    for seed in 0..20 {
        let (mut near, mut far) = connected(&Model::new(seed)).await;
        let sent = numbered(1 << 20);
        let mut received = Vec::new();
        let write = async {
            near.write_all(&sent).await.expect("written");
            drop(near);
        };
        let (_, read) = tokio::join!(write, far.read_to_end(&mut received));
        assert_eq!(read.expect("an end"), sent.len());
        assert!(received == sent, "seed {seed}");
        assert_eq!(far.write_all(b"to nobody").await.expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_cuts_what_is_on_its_way() {
    let mut lengths = BTreeSet::new();
    for seed in 0..20 {
        let model = Model::new(seed);
        let (mut near, mut far) = connected(&model).await;
        let sent = numbered(10_000);
        near.write_all(&sent).await.expect("written");
        model.reset("b", "a");
        let mut received = Vec::new();
        let error = far.read_to_end(&mut received).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(sent.starts_with(&received));
        assert_eq!(near.write(b"more").await.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
        lengths.insert(received.len());
    }
    assert!(lengths.len() > 10, "{lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_reader() {
    let (mut near, mut far) = connected(&Model::new(1)).await;
    let sent = numbered(1 << 20);
    let mut write = Box::pin(near.write_all(&sent));
    assert!(timeout(SOON, &mut write).await.is_err());
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(write, far.read_exact(&mut received));
    assert!(written.is_ok() && read.is_ok() && received == sent);
}

#[tokio::test(start_paused = true)]
async fn nobody_listens_or_nobody_hears() {
    let model = Model::new(1);
    let network = model.host("a");
    assert_eq!(network.connect("b:1").await.expect_err("nobody").kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(network.connect("b").await.expect_err("no port").kind(), io::ErrorKind::InvalidInput);
    let listener = model.host("b").listen("b:1").await.expect("listens");
    assert_eq!(model.host("b").listen("b:1").await.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    for (from, to) in [("a", "b"), ("b", "a")] {
        model.cut(from, to);
        assert!(timeout(SOON, network.connect("b:1")).await.is_err());
        model.heal(from, to);
        assert!(network.connect("b:1").await.is_ok());
    }
    drop(listener);
    assert_eq!(network.connect("b:1").await.expect_err("closed").kind(), io::ErrorKind::ConnectionRefused);
    assert!(model.host("b").listen("b:1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_a_cut_held_comes_later_than_what_a_clog_held() {
    let held = Duration::from_secs(10);
    let after = |cut: bool, seed| async move {
        let model = Model::new(seed);
        let (mut near, mut far) = connected(&model).await;
        if cut {
            model.cut("a", "b");
        } else {
            model.clog("a", "b");
        }
        near.write_all(b"x").await.expect("written");
        tokio::time::sleep(held).await;
        model.heal("a", "b");
        let healed = tokio::time::Instant::now();
        far.read_u8().await.expect("a byte");
        healed.elapsed()
    };
    let mut latest = Duration::ZERO;
    for seed in 0..20 {
        assert!(after(false, seed).await < Duration::from_millis(2));
        latest = latest.max(after(true, seed).await);
    }
    assert!(latest > held / 2 && latest <= held + Duration::from_millis(2), "{latest:?}");
}
