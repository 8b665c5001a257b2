//! Segments are begun, freed and reused, and nobody holds them for ever.

use super::*;

#[test]
fn purged_segments_are_reused() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        for round in 0..400 {
            done(|done| log.append(1, entries(1, round * 5 + 1..round * 5 + 6, 1_000), done)).await.unwrap();
            log.purge(1, id(1, round * 5));
        }
        let stats = log.stats();
        assert!(stats.segments <= 2 && stats.disk_bytes <= 5 * SMALL.segment_bytes, "{stats:?}");
        assert!(log.owner.shared.state.lock().head > 25);
        flush(&log).await.unwrap();
        let held = holds(&log).unwrap();
        vfs.crash();
        assert_eq!(holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap(), held);
    });
}

/// Marks of a group that says nothing more, and a few entries of another one, do not hold old segments.
#[test]
fn an_idle_group_holds_no_segments() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        log.save_vote(8, Bytes::from_static(b"old vote"), ignore());
        log.append(9, entries(1, 1..30, 300), ignore());
        log.purge(9, id(1, 4));
        for round in 0..600 {
            done(|done| log.append(1, entries(1, round * 5 + 1..round * 5 + 6, 1_000), done)).await.unwrap();
            log.purge(1, id(1, round * 5));
        }
        let stats = log.stats();
        assert!(stats.segments <= 6, "{stats:?}");
        for life in 0..3 {
            let log = if life == 0 { log.clone() } else { open(&vfs, SMALL, &sessions).await.unwrap() };
            assert_eq!(log.state(8).vote.as_deref(), Some(b"old vote".as_slice()));
            assert_eq!(log.read(9, 5..99, usize::MAX).unwrap(), entries(1, 5..30, 300));
            flush(&log).await.unwrap();
            vfs.crash();
        }
    });
}

/// Much that counts, spread over all segments: the log stays within its bound.
#[test]
fn space_is_bounded_by_what_counts() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        let mut rng = Rng(5);
        for round in 0..1_500 {
            for group in 1..4 {
                let next = log.state(group).last.map_or(1, |last| last.index + 1);
                log.append(group, entries(1, next..next + 1, 1 + usize::try_from(rng.below(900)).unwrap()), ignore());
                // Group 1 keeps 400 entries, the others next to none.
                let kept = if group == 1 { 400 } else { 2 };
                if next > kept {
                    log.purge(group, id(1, next - kept));
                }
            }
            flush(&log).await.unwrap();
            let stats = log.stats();
            let bound = 2 * stats.live_bytes + 8 * SMALL.segment_bytes;
            assert!(stats.disk_bytes <= bound, "round {round}: {stats:?}");
        }
        let held = holds(&log).unwrap();
        assert_eq!(held.groups[&1].entries.len(), 400);
        vfs.crash();
        assert_eq!(holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap(), held);
    });
}

/// A reader that holds a plan keeps its segment from being reused under it.
#[test]
fn a_reader_keeps_its_segment() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        done(|done| log.append(1, entries(1, 1..30, 1_000), done)).await.unwrap();
        log.release(1, 30);
        let plan = log.plan(1, 1..30, usize::MAX).unwrap();
        assert!(plan.needs_disk());
        for round in 6..200 {
            done(|done| log.append(1, entries(1, round * 5..round * 5 + 5, 1_000), done)).await.unwrap();
            log.purge(1, id(1, round * 5));
        }
        assert!(log.owner.shared.state.lock().segments.first() > Some(5));
        assert_eq!(plan.run(1).unwrap(), entries(1, 1..30, 1_000));
    });
}

/// An entry that was replaced while it was read for a move is not moved.
#[test]
fn a_stale_move_is_not_made() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        done(|done| log.append(1, entries(1, 1..3, 10), done)).await.unwrap();
        let place = |index| log.owner.shared.state.lock().groups[&1].index.get(index).unwrap();
        let stale = place(2);
        log.truncate_after(1, Some(id(1, 1)), ignore());
        done(|done| log.append(1, entries(2, 2..3, 10), done)).await.unwrap();
        let (syncs, places) = (log.stats().syncs, (place(1), place(2)));
        log.owner.shared.state.lock().move_entry(1, &entry(1, 2, 10), stale);
        flush(&log).await.unwrap();
        assert_eq!((log.stats().syncs, place(2)), (syncs, places.1));

        // One that is replaced while its move is under way keeps its newer place.
        log.owner.shared.state.lock().move_entry(1, &entry(1, 1, 10), places.0);
        log.owner.shared.state.lock().move_entry(1, &entry(2, 2, 10), places.1);
        log.truncate_after(1, Some(id(1, 1)), ignore());
        log.append(1, entries(3, 2..3, 10), ignore());
        let newer = place(2);
        assert_eq!(place(1), places.0, "read at the old place until the new one is synced");
        flush(&log).await.unwrap();
        assert_eq!(place(2), newer);
        assert_ne!(place(1), places.0);
        vfs.crash();
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        let want = vec![entry(1, 1, 10), entry(3, 2, 10)];
        assert_eq!(log.read(1, 1..9, usize::MAX).unwrap(), want);
    });
}

#[test]
fn the_size_of_segments_may_change() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let mut want = Reference::default();
        for (life, segment_bytes) in [128 << 10, 64 << 10, 256 << 10, 64 << 10].into_iter().enumerate() {
            let log = open(&vfs, LogOptions { segment_bytes, ..SMALL }, &sessions).await.unwrap();
            assert_eq!(holds(&log).unwrap(), want);
            for _ in 0..30 {
                let next = log.state(1).last.map_or(1, |last| last.index + 1);
                let new = entries(life as u64, next..next + 10, 2_000);
                want.append(1, &new);
                done(|done| log.append(1, new, done)).await.unwrap();
                log.purge(1, id(life as u64, next));
                want.purge(1, id(life as u64, next));
            }
            log.close().await;
        }
    });
}
