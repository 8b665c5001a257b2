//! A network in memory, for tests and simulation: the same seed and the same calls give the same
//! bytes at the same times.
//!
//! # Contract
//! Streams behave like TCP's: bytes arrive in order or not at all, in pieces of any size, late; a
//! stream whose reader does not read takes no more bytes. Time is tokio's, so a paused clock drives it.
//!
//! - *Latency* belongs to a direction between two hosts.
//! - A *cut* (in one direction, or in both) loses packets: nothing arrives, nobody is told, and dialling
//!   hangs. TCP repeats what was lost at growing intervals, so after healing the bytes come only after
//!   up to as long again as the cut had lasted.
//! - A *clog* holds bytes back and lets them go at once when it ends.
//! - A *reset* ends connections, each after a random part of the bytes that were on their way.
//!
//! # Used by
//! The tests of `peer`, and the simulation of whole nodes.

mod stream;
mod world;

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use self::stream::ModelStream;
use self::world::{Incoming, Path, State};
use super::network::{ByteStream, Listener, Network};

/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 128;

/// The whole network. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Model {
    world: Arc<World>,
}

/// The network as one host sees it; what the host's node is given.
#[derive(Debug, Clone)]
pub struct ModelNetwork {
    world: Arc<World>,
    host: Arc<str>,
}

#[derive(Debug)]
struct World {
    state: Mutex<State>,
    /// A cut or clog ended.
    healed: Notify,
}

impl Model {
    /// A network of any number of hosts, with a latency of 100 to 300 µs everywhere.
    pub fn new(seed: u64) -> Self {
        let state = State::new(seed);
        Self { world: Arc::new(World { state: Mutex::new(state), healed: Notify::new() }) }
    }

    /// The network as `host` sees it. Addresses are `host:port`.
    pub fn host(&self, host: &str) -> ModelNetwork {
        ModelNetwork { world: Arc::clone(&self.world), host: host.into() }
    }

    /// Sets the latency of one direction for what is sent from now on.
    pub fn set_latency(&self, from: &str, to: &str, latency: RangeInclusive<Duration>) {
        self.world.state.lock().condition(from, to).latency = Some(latency);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: &str, to: &str) {
        self.world.state.lock().condition(from, to).cut_since.get_or_insert_with(Instant::now);
    }

    /// Cuts both directions.
    pub fn cut_both(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Holds everything back in one direction.
    pub fn clog(&self, from: &str, to: &str) {
        self.world.state.lock().condition(from, to).clogged = true;
    }

    /// Ends cuts and clogs in one direction.
    pub fn heal(&self, from: &str, to: &str) {
        self.world.state.lock().heal(from, to);
        self.world.healed.notify_waiters();
    }

    /// Ends cuts and clogs in both directions.
    pub fn heal_both(&self, one: &str, other: &str) {
        self.heal(one, other);
        self.heal(other, one);
    }

    /// Breaks all connections between two hosts, in the midst of whatever is on its way.
    pub fn reset(&self, one: &str, other: &str) {
        self.world.state.lock().reset(one, other);
    }
}

impl Network for ModelNetwork {
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let listening = self.listen_now(address).map(|listener| Box::new(listener) as Box<dyn Listener>);
        std::future::ready(listening).boxed()
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let (network, address) = (self.clone(), address.to_owned());
        async move {
            let (host, port) = parse(&address)?;
            let there = Path { from: Arc::clone(&network.host), to: host };
            let back = Path { from: Arc::clone(&there.to), to: Arc::clone(&there.from) };
            // There and back again: the two packets that open a connection.
            network.world.pass(&there).await;
            network.world.pass(&back).await;
            network.open(there, back, port)
        }
        .boxed()
    }
}

impl ModelNetwork {
    fn listen_now(&self, address: &str) -> io::Result<ModelListener> {
        let (_, port) = parse(address)?;
        let mut state = self.world.state.lock();
        let port = if port == 0 { state.free_port() } else { port };
        let key = (Arc::clone(&self.host), port);
        if state.listeners.get(&key).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, incoming) = mpsc::channel(BACKLOG_MAX);
        let former = state.listeners.insert(key, sender);
        drop(state);
        // May hold streams, which lock the state when they are dropped.
        drop(former);
        Ok(ModelListener { incoming, address: format!("{}:{port}", self.host) })
    }

    fn open(&self, there: Path, back: Path, port: u16) -> io::Result<Box<dyn ByteStream>> {
        let mut state = self.world.state.lock();
        let listener = state.listeners.get(&(Arc::clone(&there.to), port)).cloned();
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let place = listener.try_reserve().map_err(|_| io::ErrorKind::ConnectionRefused)?;
        let from = format!("{}:{}", self.host, state.free_port());
        let (outward, inward) = (state.add_pipe(there), state.add_pipe(back));
        drop(state);
        let stream = |read, write| ModelStream::new(Arc::clone(&self.world), read, write);
        place.send((Box::new(stream(outward, inward)), from));
        Ok(Box::new(stream(inward, outward)))
    }
}

#[derive(Debug)]
struct ModelListener {
    incoming: mpsc::Receiver<Incoming>,
    address: String,
}

impl Listener for ModelListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>> {
        async move { self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) }.boxed()
    }

    fn local_address(&self) -> String {
        self.address.clone()
    }
}

impl World {
    /// Waits as long as one packet takes.
    async fn pass(&self, path: &Path) {
        loop {
            let healed = self.healed.notified();
            let latency = {
                let mut state = self.state.lock();
                (!state.holds(path)).then(|| state.latency(path))
            };
            match latency {
                Some(latency) => return sleep(latency).await,
                None => healed.await,
            }
        }
    }
}

fn parse(address: &str) -> io::Result<(Arc<str>, u16)> {
    let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host.into(), port.parse().ok()?)));
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an address is host:port"))
}
