//! The asynchronous runtime that openraft runs on: tokio's, with each task bound to its node.
//!
//! # Contract
//! openraft spawns tasks and draws random numbers through static functions. A task-local value carries
//! the node from each task to those that it spawns, so that a node's tasks are spawned through its
//! [`Tasks`] (a simulated crash drops them all) and its randomness comes from its [`Entropy`] (one seed
//! gives one run). Whatever enters openraft first, does so inside [`NodeContext::enter`].

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_storage::runtime::{Entropy, Tasks};
use openraft::OptionalSend;
use openraft::rt::AsyncRuntime;
use openraft_rt_tokio::TokioRuntime;
use rand::SeedableRng;
use rand::rngs::SmallRng;

tokio::task_local! {
    static NODE: NodeContext;
}

/// The node that a task belongs to.
#[derive(Debug, Clone)]
pub(crate) struct NodeContext {
    pub tasks: Tasks,
    pub entropy: Arc<dyn Entropy>,
}

impl NodeContext {
    /// Runs a future as a part of this node: what it spawns belongs to the node too.
    pub fn enter<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        NODE.scope(self.clone(), future)
    }

    fn current() -> Option<Self> {
        NODE.try_with(Clone::clone).ok()
    }
}

/// openraft's runtime; see the module. It is a `TokioRuntime` in everything but spawning and randomness.
pub struct NodeRuntime(TokioRuntime);

impl fmt::Debug for NodeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncRuntime for NodeRuntime {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match NodeContext::current() {
            Some(node) => {
                let task = node.enter(future);
                node.tasks.spawn_joined(task)
            }
            // openraft's own conformance suite enters it without a node.
            None => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let seed = match NodeContext::current() {
            // Half of the bits are enough for a seed.
            Some(node) => node.entropy.next() as u64,
            None => rand::random(),
        };
        SmallRng::seed_from_u64(seed)
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
