//! A node: everything put together in the right order, and taken apart again.
//!
//! ```text
//! config.rs    what it is told          identity.rs   whose data directory it is      env.rs    what it runs on
//! founding.rs  a new cluster, a new member             keeper.rs     members, replicas, leaders: kept as the metadata says
//! clocks.rs    how far its clock is off                disk.rs       room on the disk
//! pulse.rs     does it get the processor?              deletion.rs   what deleted namespaces leave
//! ```
//!
//! # Contract
//! [`start`] returns when the API can answer; a node of a cluster without a quorum starts all the same.
//! [`Node::stop`] hands leaderships over first. After [`Node::failed`] the process has to end: storage
//! failed, and going on would break promises.

mod clocks;
pub mod config;
mod deletion;
mod disk;
mod env;
mod founding;
mod identity;
mod keeper;
mod pulse;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use bristlecone_proto::record;
use bristlecone_raft::{Env as RaftEnv, Groups, RaftConfig};
use bristlecone_storage::log::{Log, LogOptions};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::service::Routes;

pub use clocks::Clocks;
pub use config::{NodeConfig, Role};
pub use disk::Disk;
pub use env::{Env, SystemEntropy, Tuning};

use crate::cluster::{Cluster, GroupsHandle, NodeInfo, Parts, Server, Workers};
use crate::dynamic::Dynamic;
use crate::grpc::admin_service::Admin;
use crate::grpc::{ApiService, Edge};
use crate::health::Health;
use crate::meta::{META_GROUP, Meta, MetaObserver};
use crate::peer::{Identity, Peers, Policy};
use crate::queue::Queues;
use crate::shard::{Shards, Surroundings};
use crate::token::Tokens;

/// Chains that one shard keeps in memory.
const CHAINS_MAX: usize = 8_000;
/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running node.
#[derive(Debug)]
pub struct Node {
    env: Env,
    config: NodeConfig,
    cluster: Cluster,
    fatal: mpsc::UnboundedReceiver<String>,
    api_address: String,
    service: ApiService,
}

/// Who the node is to its peers; known once it has an identity.
#[derive(Debug, Default)]
struct Who {
    identity: RwLock<Option<Identity>>,
    boot: u64,
    meta: OnceLock<tokio::sync::watch::Receiver<Arc<crate::meta::MetaView>>>,
}

impl Policy for Who {
    fn identity(&self) -> Identity {
        let unknown = || Identity { cluster_id: String::new(), node_id: 0, incarnation: 0, boot: self.boot };
        self.identity.read().clone().unwrap_or_else(unknown)
    }

    fn is_removed(&self, node_id: u64) -> bool {
        let Some(meta) = self.meta.get() else { return false };
        let view = meta.borrow();
        view.member(node_id).is_some_and(|member| member.state() == record::member::State::Removed)
    }
}

/// Starts a node.
///
/// # Errors
/// Whatever keeps it from serving, in words for people: the data directory is damaged, in use or
/// another cluster's; a port is taken; the cluster that it is to join refuses it.
pub async fn start(config: NodeConfig, env: Env) -> anyhow::Result<Node> {
    let boot = (env.entropy.next() as u64).max(1);
    let who = Arc::new(Who { boot, ..Who::default() });
    let peers = Peers::new(Arc::clone(&env.network), Arc::clone(&who) as Arc<dyn Policy>, env.tasks.clone());
    let internal = env.network.listen(&config.internal_listen.to_string()).await;
    let internal = internal.with_context(|| format!("cannot listen on {}", config.internal_listen))?;
    let internal_address = advertised(&config.internal_advertise, &internal.local_address());
    let (api, api_listens) = if env.api_port {
        let api = tokio::net::TcpListener::bind(config.listen).await;
        let api = api.with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = api.local_addr()?;
        (Some(api), address)
    } else {
        (None, config.listen)
    };
    let api_address = advertised(&config.advertise, &api_listens.to_string());
    let dynamic = Arc::new(match config.dynamic_config.clone() {
        Some(path) => Dynamic::of_file(config.settings.clone(), path)?,
        None => Dynamic::fixed(config.settings.clone()),
    });
    let server = Server::default();
    peers.serve(internal, Arc::new(server.clone()));

    let me = record::Member {
        name: config.node_name.clone(),
        api_address: api_address.clone(),
        internal_address: internal_address.clone(),
        version: VERSION.to_string(),
        ..record::Member::default()
    };
    let known = founding::identify(&config, &env, &peers, &me).await?;
    let identity = known.identity.clone();
    *who.identity.write() = Some(Identity {
        cluster_id: identity.cluster_id.clone(),
        node_id: identity.node_id,
        incarnation: identity.incarnation,
        boot,
    });
    founding::check_seeds(&config, &peers, &known).await?;
    for member in &known.members {
        peers.set_address(member.node_id, &member.internal_address)?;
    }

    let (fatal_sender, fatal) = mpsc::unbounded_channel();
    let log = open_log(&config, &env, &known, &fatal_sender).await?;
    founding::keep_identity(&config, &env, &known)?;
    let observer = Arc::new(MetaObserver::new(Arc::clone(&env.state), fatal_sender.clone())?);
    let view = observer.watch();
    // Peers are judged by the members from now on.
    drop(who.meta.set(view.clone()));
    let raft_config = env.tuning.as_ref().map_or_else(RaftConfig::default, |tuning| tuning.raft.clone());
    let groups = Groups::new(RaftEnv {
        node_id: identity.node_id,
        log,
        state: Arc::clone(&env.state),
        vfs: Arc::clone(&env.vfs),
        transport: Arc::new(peers.clone()),
        tasks: env.tasks.clone(),
        entropy: Arc::clone(&env.entropy),
        observer,
        config: RaftConfig { staging_dir: env.snapshots_dir(&config), ..raft_config },
    })?;
    server.set_groups(GroupsHandle(groups.clone()));
    groups.open_existing().await.context("cannot open the node's groups")?;
    for member in view.borrow().present_members().filter(|member| member.node_id != identity.node_id) {
        peers.set_address(member.node_id, &member.internal_address)?;
    }
    founding::open_meta_group(&config, &env, &groups, &known, &me, view.clone()).await?;

    let addresses = (api_address.clone(), internal_address);
    let parts = assemble(&env, &config, dynamic, known, groups, peers, view, addresses, fatal_sender.clone());
    let (cluster, mouth) = parts;
    env.tasks.spawn(mouth.run());
    server.set_cluster(cluster.clone());
    env.tasks.spawn(cluster.parts().queues.clone().run(cluster.parts().meta.watch()));
    keeper::spawn(&cluster, &env, me, &fatal_sender);
    let dynamic = Arc::clone(&cluster.parts().dynamic);
    env.tasks.spawn(async move { dynamic.follow().await });
    // Before the first call: a client that connects at once finds them.
    founding::create_namespaces(&config, &cluster).await;
    let api_service = ApiService::new(Edge::new(cluster.clone()), Routes::new(Admin::server(cluster.clone())));
    let own_work = cluster.parts().queues.own_work();
    env.tasks.spawn(crate::batch::work(api_service.edge().clone(), env.tasks.clone(), own_work));
    let service = api_service.clone();
    let mut stopping = env.stopping();
    // The sender lives as long as the node.
    let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
    match api {
        Some(api) => env.tasks.spawn(async move {
            if let Err(error) = crate::grpc::serve(api, api_service, stopped).await {
                tracing::error!(%error, "the API is not served any more");
            }
        }),
        None => env.tasks.spawn(async move {
            stopped.await;
            api_service.edge().drain();
        }),
    };
    if let Some(address) = config.metrics_listen {
        crate::metrics::serve(address, cluster.clone(), &env.tasks).await?;
    }
    Ok(Node { env, config, cluster, fatal, api_address, service })
}

async fn open_log(
    config: &NodeConfig,
    env: &Env,
    known: &founding::Known,
    fatal: &mpsc::UnboundedSender<String>,
) -> anyhow::Result<Log> {
    let options = match (&env.tuning, &config.data_dir) {
        (Some(tuning), _) => tuning.log,
        (None, Some(_)) => LogOptions::default(),
        (None, None) => {
            // The largest request, with copies in the history and in the state, has to fit into half of a segment.
            LogOptions { segment_bytes: 32 << 20, spare_segments: 1, tail_bytes: 4 << 20, ..LogOptions::default() }
        }
    };
    let dir = env.log_dir(config);
    let log = Log::open(Arc::clone(&env.vfs), dir, options, &env.tasks, &*env.entropy).await;
    let log = log.context("the log cannot be opened; if it is damaged, replace this node under a new id")?;
    anyhow::ensure!(
        !log.was_created() || known.is_new,
        "the data directory says that it is node {}, but its log is gone: a node never comes back without its log. \
         Remove it from the cluster and join with an empty data directory",
        known.identity.node_id
    );
    let fatal = fatal.clone();
    log.on_poisoned(Box::new(move |error| drop(fatal.send(format!("the log cannot be written: {error}")))));
    Ok(log)
}

#[expect(clippy::too_many_arguments, reason = "they are the parts")]
fn assemble(
    env: &Env,
    config: &NodeConfig,
    dynamic: Arc<Dynamic>,
    known: founding::Known,
    groups: Groups,
    peers: Peers,
    view: tokio::sync::watch::Receiver<Arc<crate::meta::MetaView>>,
    (api_address, internal_address): (String, String),
    fatal: mpsc::UnboundedSender<String>,
) -> (Cluster, crate::meta::Mouth) {
    let me = known.identity.node_id;
    let group = groups.group(META_GROUP).expect("the node was just given its replica of the meta group");
    let (meta, mouth) = Meta::new(me, group, view.clone(), peers.clone(), Arc::clone(&env.clock));
    let shards = Shards::default();
    let queues = Queues::new(me, peers.clone(), shards.clone(), env.tasks.clone(), Arc::clone(&env.clock));
    let clocks = Arc::new(Clocks::new(Arc::clone(&env.clock)));
    let surroundings = Arc::new(Surroundings {
        me,
        store: Arc::clone(&env.state),
        clocks: Arc::clone(&clocks),
        entropy: Arc::clone(&env.entropy),
        tasks: env.tasks.clone(),
        meta: view,
        dynamic: Arc::clone(&dynamic),
        queues: queues.clone(),
        cluster: OnceLock::new(),
        chains_max: CHAINS_MAX,
        fatal,
    });
    let cluster = Cluster::new(Parts {
        me,
        info: NodeInfo {
            node_id: me,
            name: known.identity.node_name.clone(),
            version: VERSION.to_string(),
            api_address,
            internal_address,
            started: Instant::now(),
        },
        meta,
        groups: GroupsHandle(groups),
        shards,
        surroundings: Arc::clone(&surroundings),
        queues,
        peers,
        store: Arc::clone(&env.state),
        clock: Arc::clone(&env.clock),
        entropy: Arc::clone(&env.entropy),
        tasks: env.tasks.clone(),
        tokens: Tokens::new(&known.identity.token_key),
        dynamic,
        health: Arc::new(Health::default()),
        clocks,
        disk: Disk::new(Arc::clone(&env.vfs), config.data_dir.as_deref()),
        workers: Workers::default(),
    });
    drop(surroundings.cluster.set(cluster.clone()));
    (cluster, mouth)
}

impl Node {
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Where the gRPC API is, host:port.
    pub fn api_address(&self) -> &str {
        &self.api_address
    }

    /// The gRPC API as a service, which takes calls without a connection.
    pub fn service(&self) -> ApiService {
        self.service.clone()
    }

    pub fn internal_address(&self) -> &str {
        &self.cluster.node().internal_address
    }

    /// Resolves with the reason when the node cannot go on.
    pub async fn failed(&mut self) -> String {
        match self.fatal.recv().await {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// Hands leaderships over, flushes, and ends everything.
    pub async fn stop(self) {
        let parts = self.cluster.parts();
        parts.health.set_ready(false);
        let handed = tokio::time::timeout(self.config.drain_time, keeper::hand_everything_over(&self.cluster)).await;
        if handed.is_err() {
            tracing::warn!("stops without having handed over all leaderships");
        }
        self.env.stop_serving();
        if let Err(error) = parts.groups.0.shutdown().await {
            tracing::warn!(%error, "the rows are not flushed; the log has them");
        }
        // Let answers that are ready leave.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.env.tasks.stop();
    }
}

/// The address that others are told: the given one, or the one listened on.
fn advertised(given: &str, listening: &str) -> String {
    if given.is_empty() { listening.to_string() } else { given.to_string() }
}
