//! `bristlecone start-dev`, also `server start-dev`: one node for development, with the flags that the
//! official development server has.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use bristlecone_proto::temporal::api::enums::v1::IndexedValueType;
use clap::CommandFactory;

use super::logging::{self, LogFormat};
use super::say::say;
use super::settings::require_loopback;
use super::{Cli, Outcome, serve};
use crate::dynamic::{self, Setting};
use crate::node::{Node, NodeConfig, Role};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keeps the data in this directory, which can become node 1 of a cluster [default: in memory, lost at the end].
    #[arg(long, short = 'f', value_name = "DIR")]
    db_filename: Option<PathBuf>,
    /// Creates this namespace; may be repeated. `default` always exists.
    #[arg(long, short, value_name = "NAME")]
    namespace: Vec<String>,
    /// Port of the gRPC API.
    #[arg(long, short, default_value_t = 7233)]
    port: u16,
    /// Port of the HTTP API (there is none yet).
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Serves Prometheus metrics here.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    /// Port of the web UI (there is none yet).
    #[arg(long, value_name = "PORT")]
    ui_port: Option<u16>,
    /// No web UI.
    #[arg(long)]
    headless: bool,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1", value_parser = host)]
    ip: IpAddr,
    /// Without effect: there is no web UI yet, like the --ui-… flags that follow.
    #[arg(long, value_name = "IP", hide = true)]
    ui_ip: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    ui_public_path: Option<String>,
    #[arg(long, value_name = "PATH", hide = true)]
    ui_asset_path: Option<String>,
    #[arg(long, value_name = "URL", hide = true)]
    ui_codec_endpoint: Option<String>,
    /// Without effect: there is no SQLite here.
    #[arg(long, value_name = "PRAGMA=VALUE", hide = true)]
    sqlite_pragma: Vec<String>,
    /// Sets a limit by its dynamic configuration key; keys without a meaning here are named and ignored.
    #[arg(long, value_name = "KEY=JSON")]
    dynamic_config_value: Vec<Setting>,
    /// Adds a search attribute to the namespaces: Text, Keyword, Int, Double, Bool, Datetime or KeywordList.
    #[arg(long, value_name = "NAME=TYPE", value_parser = search_attribute)]
    search_attribute: Vec<(String, i32)>,
    /// debug, info, warn, error, never, or filter directives.
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    log_level: String,
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    /// Prints what the server is started with.
    #[arg(long)]
    log_config: bool,
    /// Listens beyond this machine without TLS and authorisation: whoever reaches a port may do everything.
    #[arg(long)]
    insecure: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    logging::init(&args.log_level, args.log_format)?;
    let headless = args.headless || args.ui_port.is_none();
    let (log_config, http_port) = (args.log_config, args.http_port);
    let config = config(args)?;
    if !headless || http_port.is_some() {
        eprintln!("bristlecone: there is no web UI and no HTTP API yet: --ui-port and --http-port are ignored");
    }
    if log_config {
        say(format_args!("{config:#?}"));
    }
    let metrics = config.metrics_listen;
    let kept = config.data_dir.clone();
    let greet = move |node: &Node| {
        // A server goes on whether somebody reads this or not.
        drop(std::io::stdout().write_all(banner(node, metrics, kept.as_deref()).as_bytes()));
    };
    serve::block_on(serve::node(config, greet))
}

fn config(args: Args) -> anyhow::Result<NodeConfig> {
    let listen = SocketAddr::new(args.ip, args.port);
    require_loopback("--ip", listen, args.insecure)?;
    ensure!(!(args.headless && args.ui_port.is_some()), "--headless and --ui-port contradict each other");
    if let Some(path) = args.db_filename.as_deref().filter(|path| path.is_file()) {
        bail!("{} is a file: Bristlecone keeps its data in a directory", path.display());
    }
    let (known, unknown): (Vec<_>, Vec<_>) =
        args.dynamic_config_value.into_iter().partition(|setting| dynamic::is_known(&setting.key));
    for setting in unknown {
        tracing::warn!(key = setting.key, "this dynamic configuration key means nothing here");
    }
    let mut namespaces = vec!["default".to_string()];
    for namespace in args.namespace {
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }
    // What is kept may become a cluster; what is lost at the end does not need more than one shard.
    let role = match args.db_filename {
        Some(_) => Role::Bootstrap { shards: 3, replication_factor: 3 },
        None => Role::Bootstrap { shards: 1, replication_factor: 1 },
    };
    let mut config = NodeConfig {
        data_dir: args.db_filename,
        role,
        namespaces,
        search_attributes: args.search_attribute,
        metrics_listen: args.metrics_port.map(|port| SocketAddr::new(args.ip, port)),
        ..NodeConfig::development(listen)
    };
    dynamic::apply(&mut config.settings, &known)?;
    Ok(config)
}

fn banner(node: &Node, metrics: Option<SocketAddr>, kept: Option<&Path>) -> String {
    let kept = kept.map_or("in memory; -f DIR keeps it".to_string(), |dir| dir.display().to_string());
    let metrics = metrics.map_or(String::new(), |address| format!("Metrics:  http://{address}/metrics\n"));
    format!("Bristlecone {}\n\nServer:   {}\n{metrics}Data:     {kept}\n", crate::node::VERSION, node.api_address())
}

fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        text => text.parse().map_err(|_| format!("{text:?} is not an IP address")),
    }
}

fn search_attribute(text: &str) -> Result<(String, i32), String> {
    let (name, kind) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=TYPE"))?;
    let kind = match kind.to_ascii_lowercase().as_str() {
        "text" => IndexedValueType::Text,
        "keyword" => IndexedValueType::Keyword,
        "int" => IndexedValueType::Int,
        "double" => IndexedValueType::Double,
        "bool" => IndexedValueType::Bool,
        "datetime" => IndexedValueType::Datetime,
        "keywordlist" => IndexedValueType::KeywordList,
        _ => return Err(format!("{kind:?} is not a type of search attributes")),
    };
    Ok((name.to_string(), kind.into()))
}

/// Drops flags that the development server does not know, each with a warning: test environments of newer
/// SDKs must be able to start it. A word after an unknown flag counts as its value.
pub(super) fn drop_unknown(words: Vec<OsString>) -> Vec<OsString> {
    let begins = |at: usize, word: &str| words.get(at).is_some_and(|given| given == word);
    let first = match (begins(1, "start-dev"), begins(1, "server") && begins(2, "start-dev")) {
        (true, _) => 2,
        (_, true) => 3,
        _ => return words,
    };
    let command = Cli::command();
    let known = command.find_subcommand("start-dev").expect("the tree has it");
    let mut kept = words.get(..first).unwrap_or_default().to_vec();
    let mut rest = words.into_iter().skip(first).peekable();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy().into_owned();
        match find(known, &text) {
            Some(flag) => {
                kept.push(word);
                let takes_value = flag.get_action().takes_values();
                let has_value = if text.starts_with("--") { text.contains('=') } else { text.len() > 2 };
                if takes_value && !has_value {
                    kept.extend(rest.next());
                }
            }
            None if matches!(text.as_str(), "--help" | "-h") => kept.push(word),
            None => {
                eprintln!("bristlecone: start-dev does not know {text}: ignored");
                if text.starts_with('-') && !text.contains('=') {
                    rest.next_if(|next| !next.to_string_lossy().starts_with('-'));
                }
            }
        }
    }
    kept
}

/// The flag that a word such as `--port`, `--port=1`, `-p` or `-p1` names.
fn find<'a>(command: &'a clap::Command, word: &str) -> Option<&'a clap::Arg> {
    let long = word.strip_prefix("--").map(|name| name.split_once('=').map_or(name, |(name, _)| name));
    let short = word.strip_prefix('-').and_then(|name| name.chars().next());
    command.get_arguments().find(|arg| match long {
        Some(name) => arg.get_long() == Some(name),
        None => short.is_some() && arg.get_short() == short,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(words: &str) -> anyhow::Result<NodeConfig> {
        let words = std::iter::once("bristlecone").chain(words.split_whitespace()).map(OsString::from).collect();
        match Cli::try_parse_from(drop_unknown(words))?.command {
            super::super::Command::StartDev(args)
            | super::super::Command::Server(super::super::Server::StartDev(args)) => config(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sdk_test_environments_start_it() {
        let config = parse(
            "server start-dev --port 4711 --namespace default --ip 127.0.0.1 --log-format json --log-level warn \
             --dynamic-config-value frontend.enableServerVersionCheck=false --dynamic-config-value limit.maxIDLength=5 \
             --search-attribute Color=Keyword --headless --brand-new-flag value --another=x --last",
        );
        let config = config.expect("everything is known or ignored");
        assert_eq!(config.listen.to_string(), "127.0.0.1:4711");
        assert_eq!(config.namespaces, ["default"]);
        assert_eq!(config.settings.core.id_bytes_max, 5);
        assert_eq!(config.search_attributes, [("Color".to_string(), i32::from(IndexedValueType::Keyword))]);
        assert_eq!(config.data_dir, None);
    }

    #[test]
    fn short_flags_keep_their_values() {
        let config = parse("start-dev -n one -n=two -p99 -x y -f /nowhere/dev").expect("known");
        assert_eq!(config.namespaces, ["default", "one", "two"]);
        assert_eq!(config.listen.port(), 99);
        assert_eq!(config.data_dir.as_deref(), Some(Path::new("/nowhere/dev")));
        assert_eq!(config.role, Role::Bootstrap { shards: 3, replication_factor: 3 });
    }

    #[test]
    fn other_machines_are_kept_out() {
        assert!(parse("start-dev --ip 0.0.0.0").is_err());
        assert!(parse("start-dev --ip 0.0.0.0 --insecure").is_ok());
        assert!(parse("start-dev --headless --ui-port 1").is_err());
        assert!(parse("start-dev --search-attribute Color=Colour").is_err());
    }

    #[test]
    fn other_commands_are_left_alone() {
        let words: Vec<OsString> = ["bristlecone", "cluster", "status", "--nonsense"].map(OsString::from).to_vec();
        assert_eq!(drop_unknown(words.clone()), words);
    }
}
