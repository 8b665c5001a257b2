//! Workers and clients of the Rust SDK, as it is published.

use std::str::FromStr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, Url};
use temporalio_sdk::{Runtime, Worker as SdkWorker};
use tokio::sync::oneshot;

use crate::wait::{until, within};
use crate::work;

const READY_TIME: Duration = Duration::from_secs(30);
const STOP_TIME: Duration = Duration::from_secs(30);

/// A client that talks to one node.
pub async fn client(address: &str) -> Client {
    until("a client", READY_TIME, || try_client(address)).await
}

async fn try_client(address: &str) -> anyhow::Result<Client> {
    let options = ConnectionOptions::new(Url::from_str(&format!("http://{address}"))?).build();
    Ok(Client::new(Connection::connect(options).await?, ClientOptions::new("default").build())?)
}

/// A worker on a thread of its own, with all workflows and activities of `work`.
#[derive(Debug)]
pub struct Worker {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Worker {
    /// Starts a worker that talks to one node, and waits until it has connected.
    pub async fn start(address: &str, queue: &str) -> Self {
        Self::with(address, queue, 1_000).await
    }

    /// The same with a cache of that many workflows.
    pub async fn with(address: &str, queue: &str, cached: usize) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        let (address, queue) = (address.to_string(), queue.to_string());
        let thread = std::thread::spawn(move || run(&address, &queue, cached, ready, stopped));
        let worker = Self { stop: Some(stop), thread: Some(thread) };
        within("the worker's start", READY_TIME, started).await.expect("the worker starts");
        worker
    }

    /// Stops it in order: it finishes what it does.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let thread = self.thread.take().expect("it is stopped once");
        let ended = tokio::task::spawn_blocking(move || thread.join());
        let outcome = within("the worker's end", STOP_TIME, ended).await.expect("joined");
        outcome.expect("the worker does not panic").expect("the worker ends well");
    }
}

fn run(
    address: &str,
    queue: &str,
    cached: usize,
    ready: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    tokio.block_on(async {
        let runtime = Runtime::from_current_tokio(Default::default())?;
        let options = work::options(queue, cached)?;
        let mut worker = SdkWorker::new(&runtime, client(address).await, options).context("no worker")?;
        let shut_down = worker.shutdown_handle();
        tokio::spawn(async move {
            // A worker that is dropped goes as well.
            drop(stopped.await);
            shut_down();
        });
        // Whoever waits for it may have given up.
        let _ = ready.send(());
        Ok(worker.run().await?)
    })
}
