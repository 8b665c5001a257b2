//! What `bristlecone start` is told, by flags, environment and file, made into a `NodeConfig`.
//!
//! # Contract
//! A flag wins over `BRISTLECONE_*` in the environment, and that over the file. What contradicts itself is
//! refused with the words that repair it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use super::logging::LogFormat;
use crate::dynamic;
use crate::node::{NodeConfig, Role};

/// Shards of a new cluster: it grows into three nodes, and a shard splits when it is busy.
const SHARDS_DEFAULT: u32 = 3;
const REPLICATION_FACTOR_DEFAULT: u32 = 3;
const LISTEN_DEFAULT: &str = "127.0.0.1:7233";
const LOG_LEVEL_DEFAULT: &str = "info";
/// Bytes for the caches of the store when no limit is given.
const STORE_BYTES_DEFAULT: u64 = 256 << 20;
const STORE_BYTES_MIN: u64 = 32 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Every flag has the same name in the file and, with `BRISTLECONE_` before it, in the environment.
#[derive(Debug, Default, Clone, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Settings {
    /// Where the node keeps its data.
    #[arg(long, env = "BRISTLECONE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Name for people, unique in the cluster [default: n and the node's number].
    #[arg(long, env = "BRISTLECONE_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Where the gRPC API listens [default: 127.0.0.1:7233].
    #[arg(long, env = "BRISTLECONE_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where other nodes reach this one [default: the port above the API's].
    #[arg(long, env = "BRISTLECONE_INTERNAL_LISTEN", value_name = "HOST:PORT")]
    internal_listen: Option<String>,
    /// The API's address as others are told it [default: where it listens].
    #[arg(long, env = "BRISTLECONE_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The internal address as others are told it [default: where it listens].
    #[arg(long, env = "BRISTLECONE_INTERNAL_ADVERTISE", value_name = "HOST:PORT")]
    internal_advertise: Option<String>,
    /// Founds a new cluster. Ignored by a data directory that is in use already, like --join.
    #[arg(long, env = "BRISTLECONE_BOOTSTRAP", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", require_equals = true)]
    bootstrap: Option<bool>,
    /// Founds a new cluster that will have N nodes, with as many shards.
    #[arg(long, env = "BRISTLECONE_BOOTSTRAP_EXPECT", value_name = "N")]
    bootstrap_expect: Option<u32>,
    /// Shards of a new cluster [default: 3].
    #[arg(long, env = "BRISTLECONE_SHARDS", value_name = "N")]
    shards: Option<u32>,
    /// Replicas of each shard of a new cluster [default: 3].
    #[arg(long, env = "BRISTLECONE_REPLICATION_FACTOR", value_name = "N")]
    replication_factor: Option<u32>,
    /// Joins the cluster of which one of these is a member (internal addresses).
    #[arg(long, env = "BRISTLECONE_JOIN", value_delimiter = ',', value_name = "HOST:PORT,…")]
    join: Option<Vec<String>>,
    /// Serves Prometheus metrics at this port of the API's address.
    #[arg(long, env = "BRISTLECONE_METRICS_PORT", value_name = "PORT")]
    metrics_port: Option<u16>,
    /// Memory of this node, as 8GiB or 70% of the machine's; half of it is for the store's caches [default: caches of 256MiB].
    #[arg(long, env = "BRISTLECONE_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<String>,
    /// trace, debug, info, warn, error, off, or filter directives [default: info].
    #[arg(long, env = "BRISTLECONE_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
    /// [default: pretty]
    #[arg(long, env = "BRISTLECONE_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Sets a limit by its dynamic configuration key, such as limit.blobSize.error=2097152.
    #[arg(long, env = "BRISTLECONE_SET", value_delimiter = ',', value_name = "KEY=VALUE")]
    set: Option<Vec<String>>,
    /// A file of Temporal's form that sets limits for all, for namespaces and for task queues; it is read again
    /// when it changes, and goes on top of --set.
    #[arg(long, env = "BRISTLECONE_DYNAMIC_CONFIG", value_name = "FILE")]
    dynamic_config: Option<PathBuf>,
    /// Listens beyond this machine without TLS and authorisation: whoever reaches a port may do everything.
    #[arg(long, env = "BRISTLECONE_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", require_equals = true)]
    insecure: Option<bool>,
}

impl Settings {
    /// What a file says.
    pub(super) fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))
    }

    /// These settings, and where they say nothing, `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(other.data_dir),
            node_name: self.node_name.or(other.node_name),
            listen: self.listen.or(other.listen),
            internal_listen: self.internal_listen.or(other.internal_listen),
            advertise: self.advertise.or(other.advertise),
            internal_advertise: self.internal_advertise.or(other.internal_advertise),
            bootstrap: self.bootstrap.or(other.bootstrap),
            bootstrap_expect: self.bootstrap_expect.or(other.bootstrap_expect),
            shards: self.shards.or(other.shards),
            replication_factor: self.replication_factor.or(other.replication_factor),
            join: self.join.or(other.join),
            metrics_port: self.metrics_port.or(other.metrics_port),
            memory_limit: self.memory_limit.or(other.memory_limit),
            log_level: self.log_level.or(other.log_level),
            log_format: self.log_format.or(other.log_format),
            set: self.set.or(other.set),
            dynamic_config: self.dynamic_config.or(other.dynamic_config),
            insecure: self.insecure.or(other.insecure),
        }
    }

    pub(super) fn log_level(&self) -> &str {
        self.log_level.as_deref().unwrap_or(LOG_LEVEL_DEFAULT)
    }

    pub(super) fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or_default()
    }

    /// # Errors
    /// What is missing, cannot be read, or contradicts itself.
    pub(super) fn into_config(self) -> anyhow::Result<NodeConfig> {
        let data_dir = self.data_dir.clone().context("--data-dir is missing: a node of a cluster keeps its data")?;
        let listen = address("--listen", self.listen.as_deref().unwrap_or(LISTEN_DEFAULT))?;
        let internal_listen = match &self.internal_listen {
            Some(text) => address("--internal-listen", text)?,
            None => SocketAddr::new(listen.ip(), port_above(listen.port())?),
        };
        ensure!(
            listen != internal_listen || listen.port() == 0,
            "--listen and --internal-listen are the same address: {listen}"
        );
        let insecure = self.insecure.unwrap_or(false);
        require_loopback("--listen", listen, insecure)?;
        require_loopback("--internal-listen", internal_listen, insecure)?;
        let role = self.role()?;
        let namespaces = match role {
            Role::Bootstrap { .. } => vec!["default".to_string()],
            Role::Restart | Role::Join { .. } => Vec::new(),
        };
        let given: Result<Vec<dynamic::Setting>, String> =
            self.set.iter().flatten().map(|setting| setting.parse()).collect();
        let mut settings = dynamic::Settings::default();
        dynamic::apply(&mut settings, &given.map_err(anyhow::Error::msg).context("--set")?)?;
        Ok(NodeConfig {
            data_dir: Some(data_dir),
            node_name: self.node_name.unwrap_or_default(),
            advertise: told("--advertise", self.advertise, listen)?,
            internal_advertise: told("--internal-advertise", self.internal_advertise, internal_listen)?,
            listen,
            internal_listen,
            role,
            namespaces,
            search_attributes: Vec::new(),
            metrics_listen: self.metrics_port.map(|port| SocketAddr::new(listen.ip(), port)),
            settings,
            dynamic_config: self.dynamic_config,
            memory_budget: store_bytes(self.memory_limit.as_deref())?,
            drain_time: DRAIN_TIME,
        })
    }

    fn role(&self) -> anyhow::Result<Role> {
        let bootstrap = self.bootstrap.unwrap_or(self.bootstrap_expect.is_some());
        let seeds = self.join.clone().unwrap_or_default();
        if bootstrap && !seeds.is_empty() {
            bail!("--bootstrap founds a new cluster and --join joins one: say only one of them");
        }
        if !bootstrap && (self.shards.is_some() || self.replication_factor.is_some() || self.bootstrap_expect.is_some())
        {
            bail!("--shards, --replication-factor and --bootstrap-expect are for a new cluster: say --bootstrap too");
        }
        if bootstrap {
            let shards = self.shards.or(self.bootstrap_expect).unwrap_or(SHARDS_DEFAULT);
            ensure!((1..=1024).contains(&shards), "a cluster has 1 to 1024 shards, not {shards}");
            let replication_factor = self.replication_factor.unwrap_or(REPLICATION_FACTOR_DEFAULT);
            ensure!((1..=7).contains(&replication_factor), "a shard has 1 to 7 replicas, not {replication_factor}");
            return Ok(Role::Bootstrap { shards, replication_factor });
        }
        if seeds.is_empty() { Ok(Role::Restart) } else { Ok(Role::Join { seeds }) }
    }
}

/// Resolves HOST:PORT to the address to listen on.
pub(super) fn address(flag: &str, text: &str) -> anyhow::Result<SocketAddr> {
    let resolved = text.to_socket_addrs().with_context(|| format!("{flag} {text:?} is not HOST:PORT"))?;
    resolved.into_iter().next().with_context(|| format!("{flag} {text:?} has no address"))
}

/// Without TLS and authorisation a port is for this machine only, unless that is said to be wanted.
pub(super) fn require_loopback(flag: &str, address: SocketAddr, insecure: bool) -> anyhow::Result<()> {
    ensure!(
        insecure || address.ip().is_loopback(),
        "{flag} {address} can be reached from other machines, and there is neither TLS nor authorisation yet: whoever \
         reaches it may do everything. Say --insecure if the network keeps strangers out"
    );
    Ok(())
}

fn port_above(port: u16) -> anyhow::Result<u16> {
    match port {
        0 => Ok(0),
        port => port.checked_add(1).context("--listen has the last port: say --internal-listen too"),
    }
}

/// The address that others are told; empty means the one listened on, which must then be a real one.
fn told(flag: &str, given: Option<String>, listening: SocketAddr) -> anyhow::Result<String> {
    match given {
        Some(told) => {
            let port = told.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
            ensure!(port.is_some_and(|port| port.parse::<u16>().is_ok()), "{flag} {told:?} is not HOST:PORT");
            Ok(told)
        }
        None => {
            ensure!(!listening.ip().is_unspecified(), "others cannot reach {listening}: say {flag} HOST:PORT too");
            Ok(String::new())
        }
    }
}

/// Bytes for the store's caches: half of the node's memory.
fn store_bytes(limit: Option<&str>) -> anyhow::Result<usize> {
    let Some(text) = limit else { return Ok(usize::try_from(STORE_BYTES_DEFAULT)?) };
    let bad = || format!("--memory-limit {text:?} is neither a size such as 8GiB nor a share such as 70%");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    let count: u64 = digits.parse().with_context(bad)?;
    let bytes = match text.get(digits.len()..) {
        Some("") => Some(count),
        Some("KiB") => count.checked_mul(1 << 10),
        Some("MiB") => count.checked_mul(1 << 20),
        Some("GiB") => count.checked_mul(1 << 30),
        Some("%") if count <= 100 => Some(crate::process::machine_memory_bytes() / 100 * count),
        _ => None,
    };
    let half = bytes.with_context(bad)? / 2;
    ensure!(half >= STORE_BYTES_MIN, "--memory-limit {text} is too little: a node needs 64MiB at least");
    Ok(usize::try_from(half)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn config(words: &str) -> Result<NodeConfig, String> {
        let line = Line::try_parse_from(std::iter::once("start").chain(words.split_whitespace()));
        line.map_err(|error| error.to_string())?.settings.into_config().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_new_cluster_has_defaults() {
        let config = config("--data-dir /d --bootstrap").expect("enough");
        assert_eq!(config.listen.to_string(), "127.0.0.1:7233");
        assert_eq!(config.internal_listen.to_string(), "127.0.0.1:7234");
        assert_eq!(config.role, Role::Bootstrap { shards: 3, replication_factor: 3 });
        assert_eq!(config.namespaces, ["default"]);
        assert_eq!(config.metrics_listen, None);
        assert_eq!(config.memory_budget, 256 << 20);
    }

    #[test]
    fn roles_follow_from_flags() {
        let role = |words: &str| config(&format!("--data-dir /d {words}")).expect(words).role;
        assert_eq!(role(""), Role::Restart);
        assert_eq!(role("--bootstrap-expect 5"), Role::Bootstrap { shards: 5, replication_factor: 3 });
        assert_eq!(
            role("--bootstrap --shards 1 --replication-factor 1"),
            Role::Bootstrap { shards: 1, replication_factor: 1 }
        );
        assert_eq!(
            role("--join a:1,b:2 --join c:3"),
            Role::Join { seeds: vec!["a:1".into(), "b:2".into(), "c:3".into()] }
        );
    }

    #[test]
    fn contradictions_are_refused_with_the_way_out() {
        for (words, says) in [
            ("--bootstrap", "--data-dir is missing"),
            ("--data-dir /d --bootstrap --join a:1", "say only one of them"),
            ("--data-dir /d --join a:1 --shards 3", "say --bootstrap too"),
            ("--data-dir /d --bootstrap --shards 0", "1 to 1024 shards"),
            ("--data-dir /d --listen 127.0.0.1:65535", "say --internal-listen too"),
            ("--data-dir /d --listen 127.0.0.1:1 --internal-listen 127.0.0.1:1", "the same address"),
            ("--data-dir /d --listen nonsense", "is not HOST:PORT"),
            ("--data-dir /d --listen 0.0.0.0:7233", "Say --insecure"),
            ("--data-dir /d --internal-listen 0.0.0.0:7234", "Say --insecure"),
            ("--data-dir /d --listen 0.0.0.0:7233 --insecure", "say --advertise HOST:PORT too"),
            ("--data-dir /d --advertise here", "is not HOST:PORT"),
            ("--data-dir /d --set limit.x=1", "there is no such limit"),
            ("--data-dir /d --memory-limit 1GB", "neither a size"),
            ("--data-dir /d --memory-limit 1MiB", "too little"),
            ("--data-dir /d --listn x", "unexpected argument"),
        ] {
            let refused = config(words).expect_err(words);
            assert!(refused.contains(says), "{words}: {refused}");
        }
    }

    #[test]
    fn an_insecure_node_tells_others_where_it_is() {
        let words = "--data-dir /d --listen 0.0.0.0:7233 --insecure --advertise n1.example:7233 --internal-advertise n1.example:7234";
        let config = config(words).expect("enough");
        assert_eq!(
            (config.advertise.as_str(), config.internal_advertise.as_str()),
            ("n1.example:7233", "n1.example:7234")
        );
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file: Settings = toml::from_str(
            "data-dir = '/file'\nnode-name = 'f'\nbootstrap = true\nset = ['limit.maxIDLength=7']\nlog-format = 'json'",
        )
        .expect("toml");
        let line = Line::parse_from(["start", "--data-dir", "/flag"]);
        let merged = line.settings.or(file);
        assert_eq!(merged.log_format(), LogFormat::Json);
        let config = merged.into_config().expect("enough");
        assert_eq!(config.data_dir.as_deref(), Some(Path::new("/flag")));
        assert_eq!((config.node_name.as_str(), config.settings.core.id_bytes_max), ("f", 7));
        assert!(toml::from_str::<Settings>("data_dir = '/d'").is_err());
    }
}
