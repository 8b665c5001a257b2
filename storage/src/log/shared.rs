//! What the handles, the writer and the keeper of a log share, and how they wake each other.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::batch::Batch;
use super::error::LogError;
use super::files::Files;
use super::options::LogOptions;
use super::state::{Phase, State};

/// Called when the log stops after an error.
pub(super) type Hook = Box<dyn FnOnce(&LogError) + Send>;

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) files: Files,
    pub(super) options: LogOptions,
    pub(super) hooks: Mutex<Vec<Hook>>,
    /// Whether a thread writes, or a task.
    threads: bool,
    for_thread: Condvar,
    for_task: Notify,
    /// Wakes those who wait in `Log::room`.
    pub(super) room: Notify,
    keeper: Mutex<Keeper>,
    for_keeper: Condvar,
    pub(super) ended: Notify,
}

#[derive(Debug, Default)]
struct Keeper {
    wanted: bool,
    over: bool,
}

impl Shared {
    pub(super) fn new(state: State, files: Files, threads: bool) -> Self {
        Self {
            options: state.options,
            state: Mutex::new(state),
            files,
            hooks: Mutex::default(),
            threads,
            for_thread: Condvar::new(),
            for_task: Notify::new(),
            room: Notify::new(),
            // The first spare segment is made at once.
            keeper: Mutex::new(Keeper { wanted: true, over: false }),
            for_keeper: Condvar::new(),
            ended: Notify::new(),
        }
    }

    pub(super) fn wake_writer(&self) {
        if self.threads {
            self.for_thread.notify_one();
        } else {
            self.for_task.notify_one();
        }
    }

    /// The next batch, for the thread; `None` when the log is closed and empty, or stopped.
    pub(super) fn wait_for_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if let Some(batch) = state.next() {
                return Some(batch);
            }
            if !matches!(state.phase, Phase::Open) {
                return None;
            }
            self.for_thread.wait(&mut state);
        }
    }

    /// As [`Shared::wait_for_batch`], for the task.
    pub(super) async fn next_batch(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(batch) = state.next() {
                    return Some(batch);
                }
                if !matches!(state.phase, Phase::Open) {
                    return None;
                }
            }
            self.for_task.notified().await;
        }
    }

    /// A batch is synced, or failed: calls its callbacks. Whether the log goes on, and if so whether the
    /// segment files want a look.
    pub(super) fn finish(&self, batch: Batch, result: Result<(), LogError>) -> Option<bool> {
        if let Err(error) = result {
            self.stop(&error, batch.dones);
            return None;
        }
        let finished = {
            let mut state = self.state.lock();
            if let Phase::Stopped(error) = state.phase.clone() {
                drop(state);
                batch.dones.into_iter().for_each(|done| done(Err(error.clone())));
                return None;
            }
            state.finish(batch)
        };
        for file in finished.freed {
            self.files.give_back(file);
        }
        for done in finished.dones {
            done(Ok(()));
        }
        self.room.notify_waiters();
        Some(finished.keep)
    }

    /// Ends the log with an error: hooks first, then the callbacks `first`, then all others that wait.
    pub(super) fn stop(&self, error: &LogError, first: Vec<super::Done>) {
        let waiting = {
            let mut state = self.state.lock();
            if let Phase::Stopped(_) = state.phase { Vec::new() } else { state.stop(error.clone()) }
        };
        tracing::error!(%error, "the log stopped");
        let hooks = std::mem::take(&mut *self.hooks.lock());
        for hook in hooks {
            hook(error);
        }
        for done in first.into_iter().chain(waiting) {
            done(Err(error.clone()));
        }
        self.room.notify_waiters();
        self.wake_writer();
        self.end_keeper();
    }

    /// Ends the log when what waits is written.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if let Phase::Open = state.phase {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.wake_writer();
    }

    // ------------------------------------------------------------ the keeper

    pub(super) fn wake_keeper(&self) {
        self.keeper.lock().wanted = true;
        self.for_keeper.notify_one();
    }

    pub(super) fn end_keeper(&self) {
        self.keeper.lock().over = true;
        self.for_keeper.notify_one();
    }

    /// Waits until the keeper is wanted; false when the log has ended.
    pub(super) fn wait_for_keeping(&self) -> bool {
        let mut keeper = self.keeper.lock();
        while !keeper.wanted && !keeper.over {
            self.for_keeper.wait(&mut keeper);
        }
        keeper.wanted = false;
        !keeper.over
    }

    /// For the writer: says that it has ended, however it ends.
    pub(super) fn ended_guard(self: &Arc<Self>) -> impl Drop + use<> {
        Ended(Arc::clone(self))
    }
}

struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(&LogError::Poisoned("its writer panicked".into()), Vec::new());
        }
        // A task that was aborted is a crash: what waits is dropped, not called.
        let dropped = {
            let mut state = self.0.state.lock();
            state.ended = true;
            if let Phase::Stopped(_) = state.phase { Vec::new() } else { state.stop(LogError::Closed) }
        };
        drop(dropped);
        self.0.end_keeper();
        self.0.ended.notify_waiters();
        self.0.room.notify_waiters();
    }
}
