//! What each operation does, before and after the log is opened again.

use super::*;

#[test]
fn everything_is_there_again() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        assert!(log.was_created());
        let mut want = Reference::default();
        for group in [7, 3] {
            let new = entries(1, 1..40, 100);
            want.append(group, &new);
            done(|done| log.append(group, new, done)).await.unwrap();
        }
        want.group(7).log.vote = Some(Bytes::from_static(b"vote"));
        log.save_vote(7, Bytes::from_static(b"vote"), ignore());
        want.group(9).log.committed = Some(Bytes::from_static(b"mark"));
        log.save_committed(9, Bytes::from_static(b"mark"));
        want.truncate_after(7, Some(id(1, 30)));
        log.truncate_after(7, Some(id(1, 30)), ignore());
        let new = entries(2, 31..33, 10);
        want.append(7, &new);
        log.append(7, new, ignore());
        want.purge(7, id(1, 11));
        log.purge(7, id(1, 11));
        want.reset(3, id(5, 90));
        log.reset(3, id(5, 90), ignore());
        assert_eq!(holds(&log).unwrap(), want);
        log.close().await;

        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        assert!(!log.was_created());
        assert_eq!(holds(&log).unwrap(), want);
        assert_eq!(log.groups(), [3, 7, 9]);
        done(|done| log.remove_group(7, done)).await.unwrap();
        want.groups.remove(&7);
        vfs.crash();
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        assert_eq!(holds(&log).unwrap(), want);
    });
}

#[test]
fn a_log_that_was_created_and_never_written_to_is_there_after_a_power_cut() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        assert!(open(&vfs, SMALL, &sessions).await.unwrap().was_created());
        vfs.crash();
        assert!(!open(&vfs, SMALL, &sessions).await.unwrap().was_created());
    });
}

#[test]
fn truncating_and_purging_at_the_edges() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        let state = || log.state(1);
        done(|done| log.truncate_after(1, None, done)).await.unwrap();
        assert_eq!(state(), GroupLog::default());
        log.append(1, entries(1, 0..5, 1), ignore());
        done(|done| log.truncate_after(1, None, done)).await.unwrap();
        assert_eq!((state().last, log.read(1, 0..9, 99).unwrap()), (None, vec![]));
        log.append(1, entries(2, 0..5, 1), ignore());
        log.purge(1, id(2, 1));
        done(|done| log.truncate_after(1, Some(id(2, 4)), done)).await.unwrap();
        assert_eq!(state().last, Some(id(2, 4)));
        let refused = done(|done| log.truncate_after(1, Some(id(2, 0)), done)).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
        log.purge(1, id(2, 0));
        assert_eq!(state().purged, Some(id(2, 1)), "no step back");
        done(|done| log.truncate_after(1, None, done)).await.unwrap();
        assert_eq!((state().purged, state().last), (Some(id(2, 1)), Some(id(2, 1))));
        log.purge(1, id(3, 70));
        assert_eq!((state().purged, state().last), (Some(id(3, 70)), Some(id(3, 70))));
        done(|done| log.append(1, entries(3, 71..73, 1), done)).await.unwrap();
        assert_eq!(log.read(1, 71..99, 99).unwrap(), entries(3, 71..73, 1));
        let before = holds(&log).unwrap();
        vfs.crash();
        assert_eq!(holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap(), before);
    });
}

#[test]
fn what_breaks_the_contract_is_refused_whole() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        done(|done| log.append(1, entries(1, 5..7, 1), done)).await.unwrap();
        let hole = vec![entry(1, 7, 1), entry(1, 9, 1)];
        let long = vec![entry(1, 7, 1), entry(1, 8, log.entry_bytes_max() + 1)];
        for bad in [hole, long, entries(1, 6..7, 1), entries(1, 8..9, 1)] {
            let refused = done(|done| log.append(1, bad, done)).await;
            assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
        }
        let refused = done(|done| log.save_vote(1, Bytes::from(vec![0; 257]), done)).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
        assert_eq!(log.state(1).last, Some(id(1, 6)));
        let longest = vec![entry(1, 7, log.entry_bytes_max())];
        done(|done| log.append(1, longest.clone(), done)).await.unwrap();

        let mut group = 2;
        while done(|done| log.save_vote(group, Bytes::from_static(b"v"), done)).await.is_ok() {
            group += 1;
            assert!(group < 1_000, "groups have a limit");
        }
        done(|done| log.save_vote(2, Bytes::from(vec![7; 256]), done)).await.unwrap();
        done(|done| log.append(2, longest_of(&log), done)).await.unwrap();
        let before = holds(&log).unwrap();
        vfs.crash();
        assert_eq!(holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap(), before);
    });
}

/// Three entries, none of which shares a segment with another.
fn longest_of(log: &Log) -> Vec<LogEntry> {
    entries(1, 1..4, log.entry_bytes_max())
}

#[test]
fn reads_are_limited_by_bytes_and_come_from_memory_or_disk_alike() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, LogOptions { tail_bytes: 1 << 20, ..SMALL }, &sessions).await.unwrap();
        let all = entries(1, 1..200, 400);
        for part in all.chunks(7) {
            log.append(1, part.to_vec(), ignore());
            log.append(2, entries(1, part[0].id.index..part[0].id.index + part.len() as u64, 30), ignore());
        }
        flush(&log).await.unwrap();
        for released in [0, 50, 120, 199] {
            log.release(1, released);
            assert_eq!(log.read(1, 1..500, usize::MAX).unwrap(), all);
            assert_eq!(log.fetch(1, 1..500, usize::MAX).await.unwrap(), all);
            for max in [0, 399, 400, 799, 800, 20_000] {
                let count = (max / 400).clamp(1, 199);
                assert_eq!(
                    log.read(1, 100..500, max).unwrap(),
                    all[99..].iter().take(count).cloned().collect::<Vec<_>>()
                );
            }
        }
        assert_eq!(log.read(1, 20..20, 9).unwrap(), []);
        assert_eq!(log.read(1, 200..300, 9).unwrap(), []);
        assert_eq!(log.read(4, 1..300, 9).unwrap(), []);
        log.purge(1, id(1, 20));
        let purged = log.read(1, 20..30, 9);
        assert!(matches!(purged, Err(LogError::Purged { group: 1, index: 20 })), "{purged:?}");
        assert_eq!(log.read(1, 21..22, 9).unwrap(), all[20..21]);
    });
}

#[test]
fn what_is_not_synced_is_read_from_memory_even_when_released() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        log.append(1, entries(1, 1..9, 100), ignore());
        log.release(1, 8);
        assert_eq!(log.read(1, 1..9, usize::MAX).unwrap(), entries(1, 1..9, 100));
        flush(&log).await.unwrap();
        log.release(1, 8);
        assert_eq!(log.stats().tail_bytes, 0);
        assert_eq!(log.read(1, 1..9, usize::MAX).unwrap(), entries(1, 1..9, 100));
    });
}

#[test]
fn memory_has_a_limit() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        for round in 0..50 {
            for group in 1..5 {
                log.append(group, entries(1, round * 4 + 1..round * 4 + 5, 500), ignore());
            }
            assert!(log.stats().tail_bytes / 500 >= 16, "what is not synced stays");
            flush(&log).await.unwrap();
            assert!(log.stats().tail_bytes <= SMALL.tail_bytes, "{:?}", log.stats());
        }
        assert_eq!(log.read(2, 1..999, usize::MAX).unwrap(), entries(1, 1..201, 500));
        (1..5).for_each(|group| log.release(group, 500));
        assert_eq!(log.stats().tail_bytes, 0);
        assert_eq!(log.read(3, 1..999, usize::MAX).unwrap(), entries(1, 1..201, 500));
    });
}

#[test]
fn one_write_and_one_sync_for_all_that_waits() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        flush(&log).await.unwrap();
        done(|done| log.save_vote(1, Bytes::new(), done)).await.unwrap();
        let answers = Answers::default();
        let before = vfs.counts();
        for number in 0..40 {
            let group = 1 + number % 4;
            log.append(group, vec![entry(1, 1 + number / 4, 50)], answer(&answers, number));
        }
        assert_eq!(log.read(1, 1..99, 9_999).unwrap().len(), 10, "readable before it is durable");
        assert_eq!(*answers.lock(), []);
        flush(&log).await.unwrap();
        let after = vfs.counts();
        assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
        assert_eq!(*answers.lock(), (0..40).map(|number| (number, Ok(()))).collect::<Vec<_>>());

        log.save_committed(1, Bytes::from_static(b"mark"));
        log.purge(2, id(1, 3));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(vfs.counts(), after, "marks and purges cause no sync");
        flush(&log).await.unwrap();
        assert_eq!(vfs.counts().syncs, after.syncs + 1);
    });
}

#[test]
fn a_slow_disk_gathers_larger_batches() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        done(|done| log.save_vote(1, Bytes::new(), done)).await.unwrap();
        vfs.set_sync_delay(std::time::Duration::from_millis(20));
        let answers = Answers::default();
        let syncs = vfs.counts().syncs;
        log.append(1, entries(1, 1..2, 9), answer(&answers, 0));
        while vfs.counts().writes == vfs.counts().syncs {
            tokio::task::yield_now().await;
        }
        for number in 1..100 {
            log.append(1, entries(1, number + 1..number + 2, 9), answer(&answers, number));
            tokio::task::yield_now().await;
        }
        assert_eq!(*answers.lock(), [], "the disk is still busy");
        flush(&log).await.unwrap();
        assert_eq!(vfs.counts().syncs - syncs, 2);
        assert_eq!(answers.lock().len(), 100);
    });
}

#[test]
fn room_waits_for_the_disk() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, LogOptions { queued_bytes: 10_000, ..SMALL }, &sessions).await.unwrap();
        log.room().await;
        log.append(1, entries(1, 1..3, 9_000), ignore());
        assert!(log.stats().queued_bytes > 18_000);
        log.room().await;
        assert!(log.stats().queued_bytes < 10_000);
    });
}

#[test]
fn closing_writes_what_waits() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        let answers = Answers::default();
        log.append(1, entries(1, 1..3, 10), answer(&answers, 0));
        log.flush(answer(&answers, 1));
        log.save_committed(1, Bytes::from_static(b"mark"));
        let held = holds(&log).unwrap();
        log.close().await;
        assert_eq!(*answers.lock(), [(0, Ok(())), (1, Ok(()))]);
        assert_eq!(done(|done| log.flush(done)).await, Err(LogError::Closed));
        vfs.crash();
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        assert_eq!(holds(&log).unwrap(), held);
        let dropped = log.clone();
        dropped.save_committed(1, Bytes::from_static(b"later"));
        drop((log, dropped));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        vfs.crash();
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        assert_eq!(log.state(1).committed.as_deref(), Some(b"later".as_slice()));
    });
}
