//! The log on the operating system's files, with its threads.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::vfs::RealVfs;

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn open_real(dir: &std::path::Path, options: LogOptions) -> Log {
    let tasks = Tasks::threaded();
    Log::open(Arc::new(RealVfs), dir.join("log"), options, &tasks, &Sessions::default()).await.unwrap()
}

#[test]
fn many_writers_share_syncs_and_find_it_all_again() {
    const OPTIONS: LogOptions = LogOptions { segment_bytes: 256 << 10, ..SMALL };
    let dir = tempfile::tempdir().unwrap();
    threads().block_on(async {
        let log = open_real(dir.path(), OPTIONS).await;
        assert!(log.was_created());
        let mut writers = Vec::new();
        for group in 1..=16 {
            let log = log.clone();
            writers.push(tokio::spawn(async move {
                for index in 1..=100 {
                    log.room().await;
                    done(|done| log.append(group, entries(1, index..index + 1, 300), done)).await.unwrap();
                    if group > 1 && index > 10 {
                        log.purge(group, id(1, index - 10));
                    }
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        flush(&log).await.unwrap();
        let stats = log.stats();
        assert!(stats.syncs < 1_600, "{stats:?}");
        let held = holds(&log).unwrap();
        assert_eq!(held.groups[&1].entries.len(), 100);
        assert_eq!(held.groups[&2].entries.len(), 10);
        log.close().await;
        drop(log);

        let log = open_real(dir.path(), OPTIONS).await;
        assert!(!log.was_created());
        assert_eq!(holds(&log).unwrap(), held);
        assert_eq!(log.fetch(1, 1..500, usize::MAX).await.unwrap(), entries(1, 1..101, 300));
        log.close().await;
    });
}

/// Callbacks come from the log's thread, in order, and without a runtime's help.
#[test]
fn callbacks_come_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = threads();
    let log = runtime.block_on(open_real(dir.path(), SMALL));
    let (sender, receiver) = mpsc::channel();
    for index in 1..=500 {
        let sender = sender.clone();
        let done = move |result: Result<(), LogError>| sender.send((index, result)).unwrap();
        log.append(1, entries(1, index..index + 1, 100), Box::new(done));
    }
    for index in 1..=500 {
        let answer = receiver.recv_timeout(Duration::from_secs(30)).expect("an answer in time");
        assert_eq!(answer, (index, Ok(())));
    }
    runtime.block_on(log.close());
}

/// The keeper's thread empties and reuses old segments while others write.
#[test]
fn old_segments_are_emptied_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    threads().block_on(async {
        let log = open_real(dir.path(), SMALL).await;
        log.append(9, entries(1, 1..30, 300), ignore());
        for round in 0..400 {
            done(|done| log.append(1, entries(1, round * 5 + 1..round * 5 + 6, 1_000), done)).await.unwrap();
            log.purge(1, id(1, round * 5));
        }
        let mut rounds = 0;
        while log.owner.shared.state.lock().segments.first() < Some(10) {
            done(|done| log.save_vote(1, Bytes::new(), done)).await.unwrap();
            rounds += 1;
            assert!(rounds < 20_000, "{:?}", log.stats());
        }
        assert_eq!(log.read(9, 1..99, usize::MAX).unwrap(), entries(1, 1..30, 300));
        let held = holds(&log).unwrap();
        log.close().await;
        drop(log);
        assert_eq!(holds(&open_real(dir.path(), SMALL).await).unwrap(), held);
    });
}
