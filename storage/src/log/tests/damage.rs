//! Flipped bits, lost segments and unreadable sectors are named, never read past.

use std::path::Path;

use super::*;
use crate::vfs::Vfs;

/// A closed log of a few segments with all kinds of records, as last seen; and where each live file ends.
async fn sample() -> (ModelVfs, Reference, Vec<(PathBuf, u64)>) {
    let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
    let log = open(&vfs, SMALL, &sessions).await.unwrap();
    for round in 0..30 {
        for group in 1..4 {
            let next = log.state(group).last.map_or(1, |last| last.index + 1);
            log.append(group, entries(1, next..next + 2, 400), ignore());
        }
        log.append(
            1,
            entries(1, log.state(1).last.unwrap().index + 1..log.state(1).last.unwrap().index + 2, 2_000),
            ignore(),
        );
        log.save_vote(2, Bytes::from(format!("vote {round}")), ignore());
        log.save_committed(3, Bytes::from(format!("mark {round}")));
        if round % 5 == 4 {
            log.purge(3, id(1, round));
            log.truncate_after(2, Some(id(1, 2 * round)), ignore());
            log.append(2, entries(1, 2 * round + 1..2 * round + 3, 10), ignore());
        }
        flush(&log).await.unwrap();
    }
    let held = holds(&log).unwrap();
    log.close().await;
    let state = log.owner.shared.state.lock();
    let mut live = Vec::new();
    for segment in state.segments.first().unwrap()..=state.head {
        let file = state.segments.file(segment).unwrap();
        live.push((file.path.clone(), if segment == state.head { state.end } else { 0 }));
    }
    drop(state);
    // Where a segment ends is where the scan of it ends.
    for (path, end) in &mut live {
        let file = vfs.open(path, crate::vfs::Open::Existing).unwrap();
        let mut sector = vec![0; 512];
        while *end == 0 || *end < file.len().unwrap() {
            file.read_at(&mut sector, *end).unwrap();
            if sector.iter().all(|byte| *byte == 0) {
                break;
            }
            *end += 512;
        }
    }
    (vfs, held, live)
}

#[test]
fn every_flipped_bit_is_found_at_opening() {
    run(async {
        let (vfs, held, live) = sample().await;
        let sessions = Sessions::default();
        assert!(live.len() > 1, "more than one segment");
        let (mut flips, mut rng) = (0, Rng(1));
        for (path, end) in &live {
            let mut at = 0;
            while at < *end {
                // All bits of the heads of the first and last sectors, else one bit here and there.
                let in_head = at % 512 < 64 && (at < 512 || at >= *end - 1024);
                for bit in if in_head { 0..8 } else { 0..1 } {
                    let bit = if in_head { bit } else { u8::try_from(rng.below(8)).unwrap() };
                    assert!(vfs.flip(path, at, bit));
                    match open(&vfs, SMALL, &sessions).await {
                        Err(LogError::Corrupt(found)) => assert_eq!(found.file, *path, "{found}"),
                        other => panic!("bit {bit} of byte {at} of {}: {other:?}", path.display()),
                    }
                    vfs.flip(path, at, bit);
                    flips += 1;
                }
                at += if in_head { 1 } else { 1 + rng.below(20) };
            }
        }
        assert!(flips > 5_000, "{flips} flips");
        assert_eq!(holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap(), held);
    });
}

/// Behind the end of the log there is nothing to lose: a flip there is refused or without consequence.
#[test]
fn a_flip_behind_the_end_loses_nothing() {
    run(async {
        let (vfs, held, live) = sample().await;
        let (path, end) = live.last().unwrap();
        let mut rng = Rng(2);
        for _ in 0..300 {
            let at = end + rng.below(SMALL.segment_bytes - end);
            assert!(vfs.flip(path, at, 3));
            match open(&vfs, SMALL, &Sessions::default()).await {
                Ok(log) => assert_eq!(holds(&log).unwrap(), held),
                Err(error) => assert!(matches!(error, LogError::Corrupt(_)), "{error}"),
            }
            vfs.flip(path, at, 3);
        }
    });
}

#[test]
fn a_flip_is_found_by_reads_and_moves() {
    run(async {
        let (vfs, held, live) = sample().await;
        let sessions = Sessions::default();
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        let mut rng = Rng(3);
        let mut hits = 0;
        for _ in 0..500 {
            let (path, end) = &live[usize::try_from(rng.below(live.len() as u64)).unwrap()];
            let (at, bit) = (rng.below(*end), u8::try_from(rng.below(8)).unwrap());
            vfs.flip(path, at, bit);
            match holds(&log) {
                Ok(found) => assert_eq!(found, held),
                Err(LogError::Corrupt(found)) => {
                    assert_eq!(found.file, *path);
                    hits += 1;
                }
                Err(other) => panic!("{other}"),
            }
            vfs.flip(path, at, bit);
        }
        assert!(hits > 100, "{hits} hits");

        // A damaged entry that is to be moved stops the log.
        let place = log.owner.shared.state.lock().groups[&1].index.get(1).unwrap();
        let path = log.owner.shared.state.lock().segments.file(place.segment).unwrap().path.clone();
        vfs.flip(&path, u64::from(place.spot.at) + 30, 0);
        let mut next = log.state(3).last.unwrap().index + 1;
        let error = loop {
            log.purge(3, id(1, next - 1));
            if let Err(error) = done(|done| log.append(3, entries(1, next..next + 1, 9_000), done)).await {
                break error;
            }
            next += 1;
            assert!(next < 1_000, "the first segment is emptied in time");
        };
        assert!(matches!(error, LogError::Corrupt(_)), "{error}");
    });
}

#[test]
fn unreadable_sectors_are_damage() {
    run(async {
        let (vfs, held, live) = sample().await;
        let log = open(&vfs, SMALL, &Sessions::default()).await.unwrap();
        let (path, end) = &live[0];
        vfs.fail_reads(path, 0..*end);
        assert!(matches!(holds(&log), Err(LogError::Corrupt(found)) if found.file == *path));
        drop(log);
        assert!(
            matches!(open(&vfs, SMALL, &Sessions::default()).await, Err(LogError::Corrupt(found)) if found.file == *path)
        );
        vfs.heal_reads();
        assert_eq!(holds(&open(&vfs, SMALL, &Sessions::default()).await.unwrap()).unwrap(), held);
    });
}

async fn refuses(vfs: &ModelVfs) -> String {
    match open(vfs, SMALL, &Sessions::default()).await {
        Err(LogError::Corrupt(found)) => found.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_or_foreign_segment_is_damage() {
    run(async {
        let (vfs, _, live) = sample().await;
        assert!(live.len() >= 2);
        let (first, last) = (&live[0].0, &live[live.len() - 1].0);

        let lost = vfs.fork(1);
        lost.remove(first).unwrap();
        assert!(refuses(&lost).await.contains("is missing"));

        let twice = vfs.fork(1);
        copy(&twice, last, &dir().join("00000099.seg"));
        assert!(refuses(&twice).await.contains("twice"));

        // The end of the first segment cut off: the second one says where it was.
        let short = vfs.fork(1);
        let file = short.open(first, crate::vfs::Open::Existing).unwrap();
        file.write_at(&[0; 512], live[0].1 - 512).unwrap();
        let what = refuses(&short).await;
        assert!(what.contains("ends at") || what.contains("belongs"), "{what}");
    });
}

/// A whole batch in the middle that reads as never written: something synced is lost.
#[test]
fn a_hole_before_a_later_batch_is_damage() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        for index in 1..8 {
            done(|done| log.append(1, entries(1, index..index + 1, 100), done)).await.unwrap();
        }
        log.close().await;
        let path = dir().join("00000001.seg");
        // The first is the beginning of the log.
        for batch in 1..7 {
            let holed = vfs.fork(1);
            holed.open(&path, crate::vfs::Open::Existing).unwrap().write_at(&[0; 512], batch * 512).unwrap();
            assert!(refuses(&holed).await.contains("is damaged"));
        }
        // The very last one missing is what a crash before its sync leaves.
        let torn = vfs.fork(1);
        torn.open(&path, crate::vfs::Open::Existing).unwrap().write_at(&[0; 512], 7 * 512).unwrap();
        let log = open(&torn, SMALL, &sessions).await.unwrap();
        assert_eq!(log.state(1).last, Some(id(1, 6)));
    });
}

/// A batch that is whole, but from another history of the same log.
#[test]
fn a_batch_of_another_history_is_damage() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        done(|done| log.append(1, entries(1, 1..2, 100), done)).await.unwrap();
        log.close().await;
        let path = dir().join("00000001.seg");
        let histories = [vfs.fork(1), vfs.fork(2)];
        for (other, len) in histories.iter().zip([100, 101]) {
            let log = open(other, SMALL, &Sessions::default()).await.unwrap();
            done(|done| log.append(1, entries(1, 2..3, len), done)).await.unwrap();
            done(|done| log.append(1, entries(1, 3..4, len), done)).await.unwrap();
            log.close().await;
        }
        let [here, there] =
            histories.map(|vfs| vfs.open(&path, crate::vfs::Open::Existing).map(|file| (vfs, file)).unwrap());
        let mut batch = [0; 512];
        there.1.read_at(&mut batch, 1024).unwrap();
        here.1.write_at(&batch, 1024).unwrap();
        let what = refuses(&here.0).await;
        assert!(what.contains("does not follow"), "{what}");
    });
}

/// A file that is shorter than it was: what is cut off was never written, or it is damage.
#[test]
fn a_cut_file_loses_only_its_last_batch() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        for index in 1..4 {
            done(|done| log.append(1, entries(1, index..index + 1, 1_400), done)).await.unwrap();
        }
        let end = log.owner.shared.state.lock().end;
        log.close().await;
        let path = dir().join("00000001.seg");
        for cut in 1..1_400 {
            let short = vfs.fork(1);
            short.open(&path, crate::vfs::Open::Existing).unwrap().truncate(end - cut).unwrap();
            let log = open(&short, SMALL, &sessions).await.unwrap();
            assert_eq!(log.state(1).last, Some(id(1, 2)), "{cut} bytes cut off");
            done(|done| log.append(1, entries(2, 3..9, 1_400), done)).await.unwrap();
            short.crash();
            let log = open(&short, SMALL, &sessions).await.unwrap();
            assert_eq!(log.state(1).last, Some(id(2, 8)));
        }
    });
}

fn copy(vfs: &ModelVfs, from: &Path, to: &Path) {
    let (from, to) =
        (vfs.open(from, crate::vfs::Open::Existing).unwrap(), vfs.open(to, crate::vfs::Open::CreateNew).unwrap());
    let mut bytes = vec![0; usize::try_from(from.len().unwrap()).unwrap()];
    from.read_at(&mut bytes, 0).unwrap();
    to.write_at(&bytes, 0).unwrap();
}
