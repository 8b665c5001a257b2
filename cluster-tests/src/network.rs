//! Nodes in network namespaces, so that connections between them can be cut.
//!
//! ```text
//! this test (10.x.y.254) ── bridge ─┬─ namespace of node 1 (10.x.y.1)
//!                                   ├─ namespace of node 2 (10.x.y.2)
//!                                   └─ …
//! ```
//! A cut is a pair of routes into a black hole: packets vanish, as they do when a cable is pulled, and the test still
//! reaches both sides. Rough weather is a detour: what nodes send each other goes through a program, which loses some
//! packets, sends some twice and lets each take another time.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};

use crate::node::Place;

/// Reads IP packets from a tunnel in each namespace and writes them to that of their destination.
const ROUGH: &str = r"
import ctypes, fcntl, heapq, os, random, select, socket, struct, sys, time

lost, twice, late = (float(value) for value in sys.argv[1:4])
own, ends = ctypes.CDLL(None), {}
for end in sys.argv[4:]:
    namespace, address = end.split('=')
    if own.setns(os.open('/run/netns/' + namespace, os.O_RDONLY), 0x40000000):
        sys.exit('no way into ' + namespace)
    tunnel = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    # TUNSETIFF: a tunnel for IP packets, without a header before each.
    fcntl.ioctl(tunnel, 0x400454CA, struct.pack('16sH22s', b'rough', 0x1001, b''))
    ends[socket.inet_aton(address)] = tunnel
print('ready', flush=True)
waiting, passed, gone, doubled = [], 0, 0, 0
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        _, _, to, packet = heapq.heappop(waiting)
        try:
            os.write(to, packet)
        except OSError:
            pass
    readable, _, _ = select.select([0, *ends.values()], [], [], max(0, waiting[0][0] - now) if waiting else None)
    if 0 in readable:
        break
    for tunnel in readable:
        for _ in range(64):
            try:
                packet = os.read(tunnel, 65536)
            except BlockingIOError:
                break
            to = ends.get(packet[16:20])
            if to is None or packet[0] >> 4 != 4:
                continue
            if random.random() < lost or len(waiting) > 100000:
                gone += 1
                continue
            copies = 2 if random.random() < twice else 1
            doubled += copies - 1
            for _ in range(copies):
                passed += 1
                heapq.heappush(waiting, (time.monotonic() + random.random() * late, passed, to, packet))
print(f'{passed} packets passed, {doubled} of them twice, {gone} were lost')
";

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

    /// From now on packets between nodes are lost and doubled with these probabilities, and take up to `late_ms`.
    ///
    /// # Errors
    /// There are no tunnels here; says what is missing.
    pub fn rough(&self, lost: f64, twice: f64, late_ms: u32) -> anyhow::Result<Rough> {
        let ends = (1..=self.count).map(|node| format!("{}={}", self.namespace(node), self.address(node)));
        let late = f64::from(late_ms) / 1_000.0;
        let mut command = Command::new("python3");
        command.args(["-c", ROUGH]).args([lost, twice, late].map(|value| value.to_string())).args(ends);
        let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("python3 is missing")?;
        let mut says = BufReader::new(program.stdout.take().context("it says nothing")?);
        let mut first = String::new();
        says.read_line(&mut first)?;
        let rough = Rough { program, says };
        ensure!(first.trim() == "ready", "tunnels do not work here");
        self.detour()?;
        Ok(rough)
    }

    fn detour(&self) -> anyhow::Result<()> {
        for node in 1..=self.count {
            let namespace = self.namespace(node);
            ip(&["-n", &namespace, "link", "set", "rough", "up"])?;
            for other in (1..=self.count).filter(|other| *other != node) {
                let (to, from) = (format!("{}/32", self.address(other)), self.address(node));
                ip(&["-n", &namespace, "route", "add", &to, "dev", "rough", "src", &from])?;
            }
        }
        Ok(())
    }

    /// From now on no more than so many bits a second reach a node.
    ///
    /// # Errors
    /// The kernel cannot do that.
    pub fn narrow(&self, node: usize, rate: &str) -> anyhow::Result<()> {
        let device = format!("{}v{node}", self.tag);
        let limits = ["tbf", "rate", rate, "burst", "64kb", "latency", "300ms"];
        let output = Command::new("tc").args(["qdisc", "replace", "dev", &device, "root"]).args(limits).output();
        let output = output.context("tc (iproute2) is missing")?;
        ensure!(output.status.success(), "tc: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Undoes [`Network::narrow`].
    pub fn widen(&self, node: usize) {
        let device = format!("{}v{node}", self.tag);
        // It may not have been narrow.
        drop(Command::new("tc").args(["qdisc", "del", "dev", &device, "root"]).output());
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

/// Rough weather, until it is dropped.
#[derive(Debug)]
pub struct Rough {
    program: Child,
    says: BufReader<ChildStdout>,
}

impl Rough {
    /// Ends it; what it did.
    pub fn end(mut self) -> String {
        drop(self.program.stdin.take());
        let mut said = String::new();
        self.says.read_to_string(&mut said).expect("it says what it did");
        said.trim().to_string()
    }
}

impl Drop for Rough {
    fn drop(&mut self) {
        // The tunnels and the routes through them go with it.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip (iproute2) is missing")?;
    let refusal = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), refusal.trim());
    Ok(())
}
