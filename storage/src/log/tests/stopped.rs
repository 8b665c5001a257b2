//! After an error of the disk nothing is written, retried or acknowledged.

use super::*;

/// A log with one entry, a failure ordered for its next batch, and what became of the calls after it.
fn after(failure: impl Fn(&ModelVfs), check: impl Fn(LogError) -> bool) {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        done(|done| log.append(1, entries(1, 1..2, 10), done)).await.unwrap();
        let answers = Answers::default();
        let hook = Arc::clone(&answers);
        log.on_poisoned(Box::new(move |error| hook.lock().push((99, Err(error.clone())))));
        failure(&vfs);
        log.append(1, entries(1, 2..3, 10), answer(&answers, 1));
        log.save_vote(1, Bytes::new(), answer(&answers, 2));
        while answers.lock().is_empty() {
            log.append(
                2,
                entries(
                    1,
                    log.state(2).last.map_or(1, |last| last.index + 1)
                        ..log.state(2).last.map_or(2, |last| last.index + 2),
                    20_000,
                ),
                answer(&answers, 3),
            );
            tokio::task::yield_now().await;
        }
        let counts = vfs.counts();
        log.save_vote(1, Bytes::new(), answer(&answers, 4));
        log.save_committed(1, Bytes::new());
        log.flush(answer(&answers, 5));
        log.room().await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(vfs.counts(), counts, "nothing is tried again");
        let answers = std::mem::take(&mut *answers.lock());
        assert_eq!(answers.first().map(|(number, _)| *number), Some(99), "the hook comes first");
        assert!(answers.iter().all(|(_, result)| result.clone().is_err_and(&check)), "{answers:?}");
        assert_eq!(answers.last().map(|(number, _)| *number), Some(5));
        assert_eq!(log.read(1, 1..2, 99).unwrap(), entries(1, 1..2, 10), "reads go on");
        let late = Answers::default();
        let hook = Arc::clone(&late);
        log.on_poisoned(Box::new(move |error| hook.lock().push((0, Err(error.clone())))));
        assert_eq!(late.lock().len(), 1, "too late to wait for it");
        log.close().await;
    });
}

#[test]
fn a_failed_sync_stops_the_log() {
    after(ModelVfs::fail_next_sync, |error| matches!(error, LogError::Poisoned(_)));
}

#[test]
fn a_failed_write_stops_the_log() {
    after(ModelVfs::fail_next_write, |error| matches!(error, LogError::Poisoned(_)));
}

#[test]
fn a_failed_sync_never_comes_back_as_durable() {
    for seed in 0..200 {
        run(async {
            let (vfs, sessions) = (ModelVfs::new(seed), Sessions::default());
            let log = open(&vfs, SMALL, &sessions).await.unwrap();
            done(|done| log.append(1, entries(1, 1..9, 700), done)).await.unwrap();
            vfs.fail_next_sync();
            let failed = done(|done| log.append(1, entries(1, 9..20, 700), done)).await;
            assert!(matches!(failed, Err(LogError::Poisoned(_))), "{failed:?}");
            vfs.kill();
            // The page cache may show all of it. What the next process sees, it must keep.
            let seen = holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap();
            vfs.crash();
            assert_eq!(holds(&open(&vfs, SMALL, &sessions).await.unwrap()).unwrap(), seen);
        });
    }
}

#[test]
fn a_full_disk_stops_the_log_and_it_opens_again() {
    run(async {
        let (vfs, sessions) = (ModelVfs::new(1), Sessions::default());
        vfs.set_capacity(3 * SMALL.segment_bytes);
        let log = open(&vfs, SMALL, &sessions).await.unwrap();
        let mut next = 1;
        let error = loop {
            match done(|done| log.append(1, entries(1, next..next + 1, 9_000), done)).await {
                Ok(()) => next += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::Full(_)), "{error:?}");
        vfs.crash();
        let log = open(&vfs, SMALL, &sessions).await.expect("it opens on a full disk");
        assert_eq!(log.read(1, 1..next, usize::MAX).unwrap(), entries(1, 1..next, 9_000));
        // Purging makes room again, as far as the last segment takes the marks.
        log.purge(1, id(1, next - 1));
        flush(&log).await.unwrap();
        done(|done| log.save_vote(1, Bytes::new(), done)).await.unwrap();
        for index in next..next + 40 {
            log.purge(1, id(1, index - 1));
            done(|done| log.append(1, entries(1, index..index + 1, 9_000), done)).await.unwrap();
        }
    });
}

/// The same with the log's threads: the hook is called at once, and before any callback.
#[test]
fn threads_stop_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stopped_by = |stop: &dyn Fn(&ModelVfs, &Log)| {
        let vfs = ModelVfs::new(1);
        let (tasks, sessions) = (Tasks::threaded(), Sessions::default());
        let opened = Log::open(Arc::new(vfs.clone()), dir(), SMALL, &tasks, &sessions);
        let log = runtime.block_on(opened).unwrap();
        runtime.block_on(done(|done| log.append(1, entries(1, 1..2, 10), done))).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let send = |number| {
            let sender = sender.clone();
            move |result: Result<(), LogError>| sender.send((number, result)).unwrap()
        };
        let expect = |number| {
            let answer = receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("an answer in time");
            assert!(matches!(&answer, (who, Err(LogError::Poisoned(_))) if *who == number), "{answer:?}");
        };
        let hook = send(0);
        log.on_poisoned(Box::new(move |error| hook(Err(error.clone()))));
        stop(&vfs, &log);
        expect(0);
        log.save_vote(1, Bytes::new(), Box::new(send(1)));
        expect(1);
        runtime.block_on(log.close());
    };
    stopped_by(&|vfs, log| {
        vfs.fail_next_sync();
        log.append(1, entries(1, 2..3, 10), ignore());
    });
    stopped_by(&|vfs, log| {
        vfs.fail_next_write();
        log.append(1, entries(1, 2..3, 10), ignore());
    });
    stopped_by(&|_, log| log.flush(Box::new(|_| panic!("a callback panics"))));
}
