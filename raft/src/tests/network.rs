//! A network between the nodes of a test: ordered lanes, with delays, losses and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{Groups, Lane, NodeId, Transport, TransportError};

#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: SmallRng,
    nodes: BTreeMap<NodeId, Groups>,
    /// Directions in which nothing passes.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Of a thousand frames, how many vanish.
    loss_per_mille: u32,
    delay_ms_max: u64,
    pipes: BTreeMap<(NodeId, NodeId, Lane), mpsc::UnboundedSender<Parcel>>,
    calls: BTreeMap<Lane, u64>,
}

struct Parcel {
    due: Instant,
    payload: Bytes,
    answer: oneshot::Sender<Bytes>,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: SmallRng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            loss_per_mille: 0,
            delay_ms_max: 0,
            pipes: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub fn transport(&self, me: NodeId) -> Arc<dyn Transport> {
        Arc::new(Port { me, network: self.clone() })
    }

    pub fn connect(&self, node: NodeId, groups: Groups) {
        self.inner.lock().nodes.insert(node, groups);
    }

    pub fn disconnect(&self, node: NodeId) {
        self.inner.lock().nodes.remove(&node);
    }

    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.inner.lock().cuts.insert((from, to));
    }

    /// Cuts a node from all others, both ways.
    pub fn isolate(&self, node: NodeId, others: &[NodeId]) {
        for other in others {
            self.cut(node, *other);
            self.cut(*other, node);
        }
    }

    pub fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.cuts.clear();
        inner.loss_per_mille = 0;
    }

    pub fn set_weather(&self, loss_per_mille: u32, delay_ms_max: u64) {
        let mut inner = self.inner.lock();
        inner.loss_per_mille = loss_per_mille;
        inner.delay_ms_max = delay_ms_max;
    }

    /// How many calls were made on a lane.
    pub fn calls(&self, lane: Lane) -> u64 {
        self.inner.lock().calls.get(&lane).copied().unwrap_or(0)
    }

    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let mut inner = self.inner.lock();
        let loss = inner.loss_per_mille;
        !inner.cuts.contains(&(from, to)) && inner.rng.random_range(0..1000) >= loss
    }

    fn delay(&self) -> Duration {
        let mut inner = self.inner.lock();
        let max = inner.delay_ms_max;
        Duration::from_millis(inner.rng.random_range(0..=max))
    }

    fn send(&self, from: NodeId, to: NodeId, lane: Lane, payload: Bytes) -> oneshot::Receiver<Bytes> {
        let (answer, answered) = oneshot::channel();
        let parcel = Parcel { due: Instant::now() + self.delay(), payload, answer };
        let mut inner = self.inner.lock();
        *inner.calls.entry(lane).or_default() += 1;
        let pipe = inner.pipes.entry((from, to, lane)).or_insert_with(|| {
            let (pipe, parcels) = mpsc::unbounded_channel();
            tokio::spawn(deliver(self.clone(), from, to, lane, parcels));
            pipe
        });
        drop(pipe.send(parcel));
        answered
    }
}

/// Carries the frames of one lane in order; answers find their way back in any order.
async fn deliver(network: Network, from: NodeId, to: NodeId, lane: Lane, mut parcels: mpsc::UnboundedReceiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        sleep_until(parcel.due).await;
        if !network.passes(from, to) {
            continue;
        }
        let Some(groups) = network.inner.lock().nodes.get(&to).cloned() else {
            continue;
        };
        let answer = groups.handle(from, lane, parcel.payload);
        let network = network.clone();
        tokio::spawn(async move {
            let answer = answer.await;
            sleep(network.delay()).await;
            if network.passes(to, from) {
                drop(parcel.answer.send(answer));
            }
        });
    }
}

/// One node's side of the network.
struct Port {
    me: NodeId,
    network: Network,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port of node {}", self.me)
    }
}

impl Transport for Port {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        payload: Bytes,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let answered = self.network.send(self.me, to, lane, payload);
        async move {
            match timeout(wait, answered).await {
                Ok(Ok(answer)) => Ok(answer),
                // A lost frame looks like silence.
                Ok(Err(_)) => {
                    sleep(wait).await;
                    Err(TransportError::Timeout)
                }
                Err(_) => Err(TransportError::Timeout),
            }
        }
        .boxed()
    }
}
