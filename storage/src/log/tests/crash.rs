//! Random operations, cut off at every write and sync: what was acknowledged is there afterwards, and what is
//! there is what some prefix of the calls made.

use std::collections::BTreeMap;

use super::*;
use crate::log::state::Phase;

const GROUPS: u64 = 4;

/// One life of a log after another on one disk, against the reference.
struct Lives {
    vfs: ModelVfs,
    sessions: Sessions,
    rng: Rng,
    term: u64,
    /// What the log may hold: after how many calls of this life, and what. A call that appends several entries
    /// makes it one by one.
    after: Vec<(u64, Reference)>,
}

impl Lives {
    fn new(seed: u64) -> Self {
        Self {
            vfs: ModelVfs::new(seed),
            sessions: Sessions::default(),
            rng: Rng(seed),
            term: 1,
            after: vec![(0, Reference::default())],
        }
    }

    fn now(&self) -> &Reference {
        &self.after.last().unwrap().1
    }

    /// Opens the log after a crash: it must hold what it held after some number of calls, at least `acknowledged`.
    async fn reopen(&mut self, acknowledged: u64) -> Log {
        let log = open(&self.vfs, SMALL, &self.sessions).await.expect("a crash is no damage");
        let held = holds(&log).unwrap();
        let found = self.after.iter().position(|(calls, after)| *calls >= acknowledged && *after == held);
        let Some(found) = found else {
            let earlier = self.after.iter().rfind(|(_, after)| *after == held).map(|(calls, _)| calls);
            let nearest = self.after.iter().rfind(|(calls, _)| *calls <= acknowledged);
            panic!(
                "{acknowledged} calls acknowledged, but it holds what {earlier:?} made: {held:#?} is not {nearest:#?}"
            );
        };
        self.after = vec![(0, self.after.swap_remove(found).1)];
        log
    }

    /// Makes calls until one fails or there were `calls`; the number of the last acknowledged one.
    async fn live(&mut self, log: &Log, calls: u64) -> u64 {
        let answers = Answers::default();
        for _ in 0..calls {
            if !matches!(log.owner.shared.state.lock().phase, Phase::Open) {
                break;
            }
            let number = self.after.last().unwrap().0 + 1;
            self.call(log, number, answer(&answers, number));
            for _ in 0..self.rng.below(4) {
                tokio::task::yield_now().await;
            }
            if self.rng.below(40) == 0 && matches!(log.owner.shared.state.lock().phase, Phase::Open) {
                match holds(log) {
                    Ok(held) => assert_eq!(held, *self.now(), "durable or not"),
                    Err(error) => assert!(error.to_string().contains("the power is off"), "{error}"),
                }
            }
        }
        if self.rng.below(2) == 0 {
            let _ = flush(log).await;
        }
        let answers = answers.lock();
        let numbers: Vec<_> = answers.iter().map(|(number, _)| *number).collect();
        assert!(numbers.is_sorted(), "answers come in order");
        let fine = answers.iter().take_while(|(_, result)| result.is_ok()).count();
        assert!(
            answers.iter().skip(fine).all(|(_, result)| result.is_err()),
            "nothing is acknowledged after a failure"
        );
        fine.checked_sub(1).map_or(0, |last| answers[last].0)
    }

    /// One random call, and what it makes of the reference.
    fn call(&mut self, log: &Log, number: u64, done: Done) {
        let group = 1 + self.rng.below(GROUPS);
        let mut next = self.now().clone();
        let known = next.groups.get(&group).cloned().unwrap_or_default();
        let (last, purged) = (known.last(), known.log.purged.map_or(0, |purged| purged.index));
        match self.rng.below(100) {
            0..55 => {
                let count = 1 + self.rng.below(4);
                // Group 1 says little and is never purged: what counts in old segments must be carried on.
                let len = match self.rng.below(4) {
                    _ if group == 1 => self.rng.below(60),
                    0 => 5_000,
                    _ => self.rng.below(600),
                };
                let len = usize::try_from(len).unwrap();
                let new = entries(self.term, last + 1..last + 1 + count, len);
                for entry in &new {
                    next.append(group, std::slice::from_ref(entry));
                    self.after.push((number - 1, next.clone()));
                }
                log.append(group, new, done);
            }
            55..65 => {
                let vote = Bytes::from(format!("vote {}", self.rng.below(1000)));
                next.group(group).log.vote = Some(vote.clone());
                log.save_vote(group, vote, done);
            }
            65..75 => {
                let mark = Bytes::from(format!("mark {}", self.rng.below(1000)));
                next.group(group).log.committed = Some(mark.clone());
                log.save_committed(group, mark);
            }
            75..85 if group > 1 && last > 0 => {
                let to = purged + self.rng.below(last - purged + 2);
                if to > purged {
                    let to = known.entries.get(&to).map_or(id(self.term, to), |entry| entry.id);
                    next.purge(group, to);
                    log.purge(group, to);
                }
            }
            85..93 if last > 0 => {
                self.term += 1;
                let most = if group == 1 { 3 } else { last - purged };
                let to = last - self.rng.below(most.min(last - purged) + 1);
                let to = known.entries.get(&to).map(|entry| entry.id).or(known.log.purged);
                next.truncate_after(group, to);
                log.truncate_after(group, to, done);
            }
            93..95 if group > 1 => {
                let to = id(self.term, last + self.rng.below(9));
                next.reset(group, to);
                log.reset(group, to, done);
            }
            95 if group > 1 => {
                next.groups.remove(&group);
                log.remove_group(group, done);
            }
            _ => log.release(group, last.saturating_sub(self.rng.below(5))),
        }
        self.after.push((number, next));
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerCut,
    /// The process dies; later the power fails, too.
    Kill,
    /// A sync fails, the process ends, and later the power fails, too.
    FailedSync,
    FailedWrite,
}

const ENDS: [End; 4] = [End::PowerCut, End::Kill, End::FailedSync, End::FailedWrite];

/// A first life of `changes` changes of the disk, then others; `cuts` more futures are tried for its end.
fn lives(seed: u64, changes: u64, end: End, cuts: u64) {
    run(async {
        let mut lives = Lives::new(seed);
        lives.vfs.cut_power_after(changes);
        let mut acknowledged = 0;
        if let Ok(log) = open(&lives.vfs, SMALL, &lives.sessions).await {
            acknowledged = lives.live(&log, 250).await;
        }
        for cut in 0..cuts {
            let mut other = Lives {
                vfs: lives.vfs.fork(seed.wrapping_add(cut.wrapping_mul(7919))),
                sessions: Sessions::default(),
                rng: Rng(cut),
                term: lives.term,
                after: lives.after.clone(),
            };
            other.vfs.crash();
            other.reopen(acknowledged).await;
        }
        match end {
            End::PowerCut => lives.vfs.crash(),
            // The power goes later, when what the next life wrote into the same files is synced.
            End::Kill | End::FailedSync | End::FailedWrite => lives.vfs.kill(),
        }
        for _ in 0..3 {
            let log = lives.reopen(acknowledged).await;
            let (more, calls) = (1 + lives.rng.below(60), 1 + lives.rng.below(120));
            match end {
                End::PowerCut => lives.vfs.cut_power_after(more),
                End::Kill | End::FailedSync | End::FailedWrite => {}
            }
            acknowledged = lives.live(&log, calls).await;
            match end {
                End::PowerCut | End::Kill => {}
                End::FailedSync => lives.vfs.fail_next_sync(),
                End::FailedWrite => lives.vfs.fail_next_write(),
            }
            if !matches!(end, End::PowerCut) {
                acknowledged = acknowledged.max(lives.live(&log, 10).await);
                lives.vfs.kill();
                drop(log);
                // What was seen once must stay, even if the power fails right afterwards.
                drop(lives.reopen(acknowledged).await);
                acknowledged = 0;
            }
            lives.vfs.crash();
        }
        let log = lives.reopen(acknowledged).await;
        flush(&log).await.unwrap();
        assert_eq!(holds(&log).unwrap(), *lives.now());
    });
}

#[test]
fn cut_at_every_change_of_the_disk() {
    for changes in 0..500 {
        lives(changes % 7, changes, End::PowerCut, 1);
    }
}

#[test]
fn killed_at_every_change_of_the_disk() {
    for changes in 0..60 {
        lives(changes, changes, End::Kill, 0);
    }
}

#[test]
fn random_ends() {
    for seed in 100..400 {
        let end = ENDS[usize::try_from(seed % 4).unwrap()];
        lives(seed, 20 + Rng(seed).below(900), end, 0);
    }
}

#[test]
fn thousands_of_torn_tails_lose_nothing_acknowledged() {
    for seed in 1_000..1_040 {
        lives(seed, 30 + Rng(seed).below(500), End::PowerCut, 40);
    }
}

/// The same batch number is tried again after each crash, over what the torn attempt before left there.
#[test]
fn torn_attempts_do_not_mix() {
    run(async {
        let mut torn = 0;
        for seed in 0..400 {
            let (vfs, sessions) = (ModelVfs::new(seed), Sessions::default());
            let log = open(&vfs, SMALL, &sessions).await.unwrap();
            done(|done| log.append(1, entries(1, 1..2, 10), done)).await.unwrap();
            drop(log);
            vfs.crash();
            for term in 2..5 {
                let log = open(&vfs, SMALL, &sessions).await.unwrap();
                let last = log.state(1).last.unwrap();
                // The write goes through, the sync does not.
                vfs.cut_power_after(1);
                let new = entries(term, last.index + 1..last.index + 4, 900);
                let failed = done(|done| log.append(1, new.clone(), done)).await;
                assert!(matches!(failed, Err(LogError::Poisoned(_))));
                vfs.crash();
                let log = open(&vfs, SMALL, &sessions).await.expect("a crash is no damage");
                let found = log.read(1, last.index + 1..u64::MAX, usize::MAX).unwrap();
                assert!(found.is_empty() || found == new);
                torn += u32::from(found.is_empty());
            }
        }
        assert!(torn > 500, "{torn} torn");
    });
}

/// The random lives do reach what they are meant to test.
#[test]
fn the_lives_roll_move_and_free_segments() {
    run(async {
        let mut lives = Lives::new(3);
        let log = open(&lives.vfs, SMALL, &lives.sessions).await.unwrap();
        lives.live(&log, 3_000).await;
        flush(&log).await.unwrap();
        let state = log.owner.shared.state.lock();
        assert!(state.head > 20, "{} segments begun", state.head);
        assert!(state.segments.first().unwrap() > 5, "the first live one is {:?}", state.segments.first());
        let mut places = BTreeMap::new();
        for (index, place) in state.groups[&1].index.iter() {
            places.insert(index, place.segment);
        }
        assert!(!places.values().is_sorted(), "entries of the group that is never purged were moved");
    });
}
