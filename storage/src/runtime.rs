//! What a node borrows from the operating system besides files: wall clock, randomness, and somewhere
//! to run tasks. Each has a real implementation and one that the simulation drives.
//!
//! # Contract
//! No other code of the project reads a wall clock, draws randomness or spawns a task or thread.
//! Monotonic time is tokio's (`tokio::time::Instant`), which the simulation pauses.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinHandle};

/// Unix time in nanoseconds.
pub type UnixNanos = i64;

/// The wall clock of a node, which may be wrong.
pub trait Clock: Debug + Send + Sync + 'static {
    fn wall(&self) -> UnixNanos;
}

/// Random bits.
pub trait Entropy: Debug + Send + Sync + 'static {
    fn next(&self) -> u128;
}

/// The operating system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> UnixNanos {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}

/// Where a node's tasks run, and the switch that ends them all.
///
/// In production blocking work goes to threads; in a simulation (`threads` off) it runs where it is
/// asked for, so that one seed gives one order.
#[derive(Debug, Clone)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    threads: bool,
    stopped: AtomicBool,
    running: Mutex<Running>,
    /// In a simulation: while it is set no task gets on; tasks that would are listed.
    paused: Mutex<Option<Vec<Waker>>>,
}

impl Inner {
    fn holds_back(&self, context: &Context<'_>) -> bool {
        match &mut *self.paused.lock() {
            Some(waiting) => {
                waiting.push(context.waker().clone());
                true
            }
            None => false,
        }
    }
}

/// A task that gets on only while its node is not paused.
async fn pausable<F: Future>(inner: Arc<Inner>, task: F) -> F::Output {
    let mut task = pin!(task);
    std::future::poll_fn(|context| if inner.holds_back(context) { Poll::Pending } else { task.as_mut().poll(context) })
        .await
}

/// Tasks that can be aborted. A handle keeps the memory of its task, so those of finished ones are let go as soon as
/// they may be half of all.
#[derive(Debug, Default)]
struct Running {
    tasks: Vec<AbortHandle>,
    prune_at: usize,
}

/// Below so many tasks the finished ones are not looked for.
const PRUNE_MIN: usize = 64;

impl Tasks {
    pub fn threaded() -> Self {
        Self::new(true)
    }

    pub fn single_threaded() -> Self {
        Self::new(false)
    }

    fn new(threads: bool) -> Self {
        let (stopped, running, paused) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { threads, stopped, running, paused }) }
    }

    /// Whether blocking work may have threads of its own.
    pub fn has_threads(&self) -> bool {
        self.inner.threads
    }

    /// Runs a task until it ends or [`Tasks::stop`] is called. Must be called inside a tokio runtime.
    pub fn spawn<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_joined(task).abort_handle()
    }

    /// As [`Tasks::spawn`], for a task whose result is waited for.
    pub fn spawn_joined<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let handle = match self.inner.threads {
            true => tokio::spawn(task),
            false => tokio::spawn(pausable(Arc::clone(&self.inner), task)),
        };
        let mut running = self.inner.running.lock();
        if self.inner.stopped.load(Ordering::Acquire) {
            handle.abort();
        } else {
            if running.tasks.len() >= running.prune_at {
                running.tasks.retain(|task| !task.is_finished());
                running.prune_at = PRUNE_MIN.max(running.tasks.len() * 2);
            }
            running.tasks.push(handle.abort_handle());
        }
        handle
    }

    /// Runs work that may wait for a disk, off the runtime's own threads.
    pub async fn blocking<R, F>(&self, work: F) -> R
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        if !self.inner.threads {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Blocking work is cancelled only when the runtime itself goes down.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Holds all tasks back, as when the process or its machine is stopped for a while; for simulations only.
    pub fn pause(&self) {
        self.inner.paused.lock().get_or_insert_default();
    }

    /// Lets the tasks go on.
    pub fn resume(&self) {
        let waiting = self.inner.paused.lock().take();
        for waker in waiting.into_iter().flatten() {
            waker.wake();
        }
    }

    /// Aborts every task that was spawned here; later ones are aborted at once.
    pub fn stop(&self) {
        let mut running = self.inner.running.lock();
        self.inner.stopped.store(true, Ordering::Release);
        for task in running.tasks.drain(..) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_node_does_nothing_until_it_goes_on() {
        let tasks = Tasks::single_threaded();
        let (sender, mut ticks) = tokio::sync::mpsc::unbounded_channel();
        tasks.spawn(async move {
            for tick in 0.. {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if sender.send(tick).is_err() {
                    return;
                }
            }
        });
        assert_eq!(ticks.recv().await, Some(0));
        tasks.pause();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(ticks.try_recv().is_err());
        tasks.resume();
        assert_eq!(ticks.recv().await, Some(1));
        assert_eq!(ticks.recv().await, Some(2));
    }
}
