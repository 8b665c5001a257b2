//! Nodes in network namespaces, so that connections between them can be cut.
//!
//! ```text
//! this test (10.x.y.254) ── bridge ─┬─ namespace of node 1 (10.x.y.1)
//!                                   ├─ namespace of node 2 (10.x.y.2)
//!                                   └─ …
//! ```
//! A cut is a pair of routes into a black hole: packets vanish, as they do when a cable is pulled, and the test still
//! reaches both sides.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::node::Place;

#[derive(Debug)]
pub struct Network {
    /// Distinguishes this test's devices from others'.
    tag: String,
    /// First three bytes of the addresses.
    subnet: String,
    count: usize,
}

impl Network {
    /// # Errors
    /// This machine or user does not allow it; says what is missing.
    pub fn new(count: usize) -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
        let id = std::process::id();
        let network = Self {
            tag: format!("bc{}", id % 100_000),
            subnet: format!("10.{}.{}", 100 + id % 100, id / 100 % 250),
            count,
        };
        network.build().context("network namespaces do not work here")?;
        Ok(network)
    }

    fn build(&self) -> anyhow::Result<()> {
        let bridge = &self.tag;
        ip(&["link", "add", bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}.254/24", self.subnet), "dev", bridge])?;
        ip(&["link", "set", bridge, "up"])?;
        for node in 1..=self.count {
            let (namespace, outer) = (self.namespace(node), format!("{}v{node}", self.tag));
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            ip(&["link", "set", &outer, "master", bridge, "up"])?;
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", self.address(node)), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// Where node n lives.
    pub fn place(&self, node: usize) -> Place {
        let address = self.address(node);
        Place {
            api: format!("{address}:7233"),
            internal: format!("{address}:7234"),
            namespace: Some(self.namespace(node)),
        }
    }

    /// Cuts a node from all others.
    pub fn cut(&self, node: usize) {
        self.each_pair(node, "add");
    }

    /// Undoes the cut.
    pub fn heal(&self, node: usize) {
        self.each_pair(node, "del");
    }

    /// From now on nothing of a node reaches the others; what they send still reaches it.
    pub fn mute(&self, node: usize) {
        self.each_from(node, "add");
    }

    /// Undoes [`Network::mute`].
    pub fn unmute(&self, node: usize) {
        self.each_from(node, "del");
    }

    fn each_from(&self, node: usize, verb: &str) {
        for other in (1..=self.count).filter(|other| *other != node) {
            let route = format!("{}/32", self.address(other));
            let changed = ip(&["-n", &self.namespace(node), "route", verb, "blackhole", &route]);
            changed.expect("routes of a namespace of ours can be changed");
        }
    }

    fn each_pair(&self, node: usize, verb: &str) {
        for other in (1..=self.count).filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                let route = format!("{}/32", self.address(to));
                let changed = ip(&["-n", &self.namespace(from), "route", verb, "blackhole", &route]);
                changed.expect("routes of a namespace of ours can be changed");
            }
        }
    }

    fn address(&self, node: usize) -> String {
        format!("{}.{node}", self.subnet)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.tag)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What was never built cannot be removed.
        for node in 1..=self.count {
            drop(ip(&["netns", "del", &self.namespace(node)]));
        }
        drop(ip(&["link", "del", &self.tag]));
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip (iproute2) is missing")?;
    let refusal = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), refusal.trim());
    Ok(())
}
