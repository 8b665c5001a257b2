//! A cluster of processes: starting, breaking and asking it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use bristlecone_proto::admin::admin_service_client::AdminServiceClient;
use bristlecone_proto::admin::{ClusterStatusRequest, ClusterStatusResponse};
use bristlecone_proto::record::member::State;
use bristlecone_storage::state::keys::slot_of;
use tonic::transport::{Channel, Endpoint};

use crate::node::{Becomes, Node, Place, program};
use crate::wait::until;

/// How long a cluster may take to be healthy after whatever happened to it.
pub const HEAL_TIME: Duration = Duration::from_secs(90);
const CONNECT_TIME: Duration = Duration::from_secs(1);
const ASK_TIME: Duration = Duration::from_secs(3);

/// Nodes are numbered from 1, in the order in which they were added; node ids of the cluster are its own affair.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    /// Numbers of those that were forgotten.
    gone: Vec<usize>,
}

impl Cluster {
    /// Starts nodes on this machine and waits until the cluster is healthy.
    pub async fn start(name: &str, count: usize) -> Self {
        Self::start_at(name, (0..count).map(|_| Place::local()).collect()).await
    }

    /// The same at given places.
    pub async fn start_at(name: &str, places: Vec<Place>) -> Self {
        let mut cluster = Self::empty(name);
        for place in places {
            cluster.add_at(place);
        }
        cluster.wait_healthy().await;
        cluster
    }

    /// A cluster without nodes.
    pub fn empty(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bristlecone-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary files can be written");
        Self { dir, nodes: Vec::new(), gone: Vec::new() }
    }

    /// Starts a further node, which joins (the first one founds); its number.
    pub fn add(&mut self) -> usize {
        self.add_at(Place::local())
    }

    pub fn add_at(&mut self, place: Place) -> usize {
        let becomes = self.next_becomes();
        let number = self.create(place, becomes);
        self.node(number).start().expect("the program starts");
        number
    }

    /// A node that is not started yet; its number.
    pub fn create(&mut self, place: Place, becomes: Becomes) -> usize {
        let number = self.nodes.len() + 1;
        let name = format!("n{number}");
        self.nodes.push(Node::new(self.dir.join(&name), name, place, becomes));
        number
    }

    /// Nodes of this machine that are not started yet: the first will found the cluster, the others join.
    pub fn unstarted(name: &str, count: usize) -> Self {
        let mut cluster = Self::empty(name);
        for _ in 0..count {
            let becomes = cluster.next_becomes();
            cluster.create(Place::local(), becomes);
        }
        cluster
    }

    fn next_becomes(&self) -> Becomes {
        let seeds: Vec<String> = self.nodes.iter().map(|node| node.place.internal.clone()).collect();
        if seeds.is_empty() { Becomes::Founder } else { Becomes::Member { seeds } }
    }

    /// The most memory that one of them uses, in MiB.
    pub fn memory(&self) -> u64 {
        self.nodes.iter().filter_map(Node::memory).max().unwrap_or_default()
    }

    pub fn node(&mut self, number: usize) -> &mut Node {
        number.checked_sub(1).and_then(|index| self.nodes.get_mut(index)).expect("nodes are numbered from 1")
    }

    /// Numbers of the nodes that still belong to it.
    pub fn numbers(&self) -> Vec<usize> {
        (1..=self.nodes.len()).filter(|number| !self.gone.contains(number)).collect()
    }

    /// Ends a node that does not belong to the cluster any more; nobody is led there again.
    pub fn forget(&mut self, number: usize) {
        self.node(number).kill();
        self.gone.push(number);
    }

    /// Kills a node and replaces its disk: it comes back as a new node, with the same addresses.
    pub fn replace(&mut self, number: usize) {
        let others = self.numbers().into_iter().filter(|other| *other != number);
        let seeds = others.map(|other| self.nodes[other - 1].place.internal.clone()).collect();
        let node = self.node(number);
        node.kill();
        node.wipe();
        node.set_becomes(Becomes::Member { seeds });
    }

    /// API address of a node.
    pub fn address(&self, number: usize) -> String {
        self.nodes[number - 1].place.api.clone()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.numbers().into_iter().map(|number| self.address(number)).collect()
    }

    /// The status as one node gives it.
    pub async fn status_of(&self, number: usize) -> anyhow::Result<ClusterStatusResponse> {
        ask_status(&self.address(number)).await
    }

    /// The status, from the first node that answers.
    pub async fn status(&self) -> anyhow::Result<ClusterStatusResponse> {
        let mut failures = Vec::new();
        for node in &self.nodes {
            match ask_status(&node.place.api).await {
                Ok(status) => return Ok(status),
                Err(error) => failures.push(format!("{}: {error:#}", node.name)),
            }
        }
        bail!("no node answers: {}", failures.join("; "))
    }

    /// Waits until every node is a member that answers, every shard has its replicas, and leaders are spread.
    pub async fn wait_healthy(&mut self) {
        let running: Vec<String> =
            self.nodes.iter_mut().filter_map(|node| node.is_running().then(|| node.place.api.clone())).collect();
        self.fail_on_ended_node();
        until("a healthy cluster", HEAL_TIME, || self.check_health(&running)).await;
    }

    async fn check_health(&self, running: &[String]) -> anyhow::Result<()> {
        for address in running {
            let status = ask_status(address).await?;
            let present: Vec<_> = status.members.iter().filter(|member| member.state() == State::Active).collect();
            for address in running {
                let member = present.iter().find(|member| member.api_address == *address);
                let member = member.ok_or_else(|| anyhow!("{address} is no member yet"))?;
                let reply = status.nodes.get(&member.node_id).and_then(|reply| reply.node.as_ref());
                ensure!(reply.is_some_and(|node| node.ready), "{address} is not ready");
            }
            let factor = status.cluster.as_ref().map_or(3, |cluster| cluster.replication_factor as usize);
            let wanted = factor.min(running.len());
            let mut leads = vec![0; running.len()];
            for shard in &status.shards {
                let (leader, group) = leader_of(&status, shard.group_id)
                    .ok_or_else(|| anyhow!("shard {} has no leader", shard.group_id))?;
                let live = group.voters.iter().filter(|voter| status.nodes.contains_key(voter)).count();
                ensure!(live >= wanted, "shard {} has {live} of {wanted} replicas", shard.group_id);
                ensure!(group.voters.len() == live, "shard {} still counts a lost replica", shard.group_id);
                let address = present.iter().find(|member| member.node_id == leader).map(|member| &member.api_address);
                if let Some(place) = running.iter().position(|known| Some(known) == address) {
                    leads[place] += 1;
                }
            }
            let (least, most) = (leads.iter().min().copied().unwrap_or(0), leads.iter().max().copied().unwrap_or(0));
            ensure!(most - least <= 1, "leaders are not spread: {leads:?}");
            ensure!(leader_of(&status, META_GROUP).is_some(), "the metadata has no leader");
        }
        Ok(())
    }

    /// A node that ended by itself fails the test with its last words.
    pub fn fail_on_ended_node(&mut self) {
        for node in &mut self.nodes {
            if let Some(status) = node.ended() {
                let log = node.log();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                panic!(
                    "{} has ended ({status}):\n{}",
                    node.name,
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
    }

    /// The cluster's id of a node, by its address.
    pub async fn id_of(&self, number: usize) -> u64 {
        let status = self.status().await.expect("a node answers");
        self.id_at(&status, number)
    }

    /// The same as a status has it.
    pub fn id_at(&self, status: &ClusterStatusResponse, number: usize) -> u64 {
        let address = self.address(number);
        let mut members = status.members.iter().rev().filter(|member| member.state() != State::Removed);
        members.find(|member| member.api_address == address).expect("a member").node_id
    }

    /// The node that leads a group, by its number here; waits for one.
    pub async fn leader(&self, group_id: u64) -> usize {
        until("a leader", HEAL_TIME, || async {
            let status = self.status().await?;
            let (leader, _) = leader_of(&status, group_id).ok_or_else(|| anyhow!("group {group_id} has no leader"))?;
            let member = status.members.iter().find(|member| member.node_id == leader);
            let address =
                member.map(|member| member.api_address.clone()).ok_or_else(|| anyhow!("an unknown leader"))?;
            let place = self.nodes.iter().position(|node| node.place.api == address);
            place.map(|index| index + 1).ok_or_else(|| anyhow!("a leader from elsewhere"))
        })
        .await
    }

    /// Runs `bristlecone cluster …` against a node.
    pub fn cli(&self, number: usize, arguments: &[&str]) -> Output {
        self.command(number, "cluster", arguments)
    }

    /// Runs one of the program's commands against a node.
    pub fn command(&self, number: usize, name: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.arg(name).args(arguments).args(["--address", &self.address(number)]);
        command.output().expect("the program runs")
    }
}

pub const META_GROUP: u64 = 1;

/// The status as one node gives it.
pub async fn ask_status(address: &str) -> anyhow::Result<ClusterStatusResponse> {
    let mut admin = AdminServiceClient::new(connect(address).await?);
    Ok(admin.cluster_status(ClusterStatusRequest {}).await?.into_inner())
}

/// A connection to a node's API port.
pub async fn connect(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(CONNECT_TIME).timeout(ASK_TIME).connect().await?)
}

/// Who leads a group, and how it says the group is. The highest term is right.
pub fn leader_of(
    status: &ClusterStatusResponse,
    group_id: u64,
) -> Option<(u64, &bristlecone_proto::node::GroupStatus)> {
    let reports = status.nodes.iter().flat_map(|(node, reply)| reply.groups.iter().map(move |group| (*node, group)));
    let leaders = reports.filter(|(node, group)| group.group_id == group_id && group.leader == *node);
    leaders.max_by_key(|(_, group)| group.term)
}

/// The shard that owns a workflow id.
pub fn shard_of(status: &ClusterStatusResponse, namespace_id: &str, workflow_id: &str) -> u64 {
    let slot = u32::from(slot_of(namespace_id, workflow_id));
    let owner = status.shards.iter().find(|shard| (shard.first_slot..shard.end_slot).contains(&slot));
    owner.expect("every slot has its shard").group_id
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = node.log();
                eprintln!("-- end of the log of {} ({})", node.name, node.log_path().display());
                log.lines().rev().take(15).collect::<Vec<_>>().into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
            return;
        }
        self.nodes.clear();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
