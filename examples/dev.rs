//! Scratch.
use bristlecone::node::{self, Env, NodeConfig, Role};
use std::net::SocketAddr;
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().collect();
    let port: u16 = args[1].parse()?;
    let mut config = NodeConfig::development(SocketAddr::from(([127, 0, 0, 1], port)));
    config.internal_listen = SocketAddr::from(([127, 0, 0, 1], port + 1));
    if args.len() > 2 {
        config.data_dir = Some(args[2].clone().into());
        config.node_name = String::new();
        config.role = match args.get(3).map(String::as_str) {
            None => Role::Restart,
            Some("bootstrap") => Role::Bootstrap { shards: 3, replication_factor: 3 },
            Some(seed) => { config.namespaces.clear(); Role::Join { seeds: vec![seed.to_string()] } },
        };
    }
    let env = Env::system(&config)?;
    let mut node = node::start(config, env).await?;
    eprintln!("READY {} {}", node.api_address(), node.internal_address());
    tokio::select! {
        r = node.failed() => eprintln!("FAILED {r}"),
        _ = tokio::signal::ctrl_c() => { node.stop().await; }
    }
    Ok(())
}
