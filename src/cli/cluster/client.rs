//! Whom the operator's commands ask, and how; and how refusals read.
//!
//! # Contract
//! What the official CLI reads for an address works here too: `TEMPORAL_ADDRESS`, `TEMPORAL_API_KEY`, and
//! profiles in `TEMPORAL_CONFIG_FILE`. Flags win over the environment, and that over the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bristlecone_proto::admin::admin_service_client::AdminServiceClient;
use bristlecone_proto::admin::{ClusterStatusRequest, ClusterStatusResponse};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::super::Outcome;
use super::Output;
use crate::cli::say::say;

const ADDRESS_DEFAULT: &str = "127.0.0.1:7233";
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// How long a question takes at most; what changes the cluster has a flag of its own.
pub(super) const ASK_TIME: Duration = Duration::from_secs(10);

pub(in crate::cli) type Admin = AdminServiceClient<InterceptedService<Channel, ApiKey>>;

/// Whom to ask.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Target {
    /// API address of a node, or of several: the first that answers is asked [default: 127.0.0.1:7233].
    #[arg(long, env = "TEMPORAL_ADDRESS", value_delimiter = ',', value_name = "HOST:PORT,…")]
    address: Vec<String>,
    #[arg(long, env = "TEMPORAL_API_KEY", hide_env_values = true, hide = true)]
    api_key: Option<String>,
    /// File with profiles of the official CLI.
    #[arg(long, env = "TEMPORAL_CONFIG_FILE", value_name = "FILE", hide = true)]
    config_file: Option<PathBuf>,
    #[arg(long, env = "TEMPORAL_PROFILE", default_value = "default", hide = true)]
    profile: String,
    #[arg(long, env = "TEMPORAL_TLS", num_args = 0..=1, default_missing_value = "true", hide = true)]
    tls: Option<String>,
    /// Prints a table for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: Output,
}

/// Adds the API key, where there is one.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ApiKey {
    bearer: Option<AsciiMetadataValue>,
}

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

impl Target {
    /// Connects to the first node that can be reached.
    ///
    /// # Errors
    /// None can; the message names each and why.
    pub(in crate::cli) async fn connect(&self, time: Duration) -> anyhow::Result<Admin> {
        if self.tls.as_deref().is_some_and(|tls| !matches!(tls, "false" | "0" | "")) {
            bail!("TLS is asked for (--tls or TEMPORAL_TLS), and this version has none yet");
        }
        let bearer = self.api_key.as_ref().map(|key| format!("Bearer {key}").parse()).transpose();
        let key =
            ApiKey { bearer: bearer.map_err(|_| anyhow!("the API key has characters that a header cannot have"))? };
        let mut failures = Vec::new();
        for address in self.addresses()? {
            let endpoint = Endpoint::from_shared(format!("http://{address}"));
            let endpoint = endpoint.with_context(|| format!("{address:?} is not HOST:PORT"))?;
            match endpoint.connect_timeout(CONNECT_TIME).timeout(time).connect().await {
                Ok(channel) => return Ok(AdminServiceClient::with_interceptor(channel, key)),
                Err(error) => failures.push(format!("{address}: {}", root_cause(&error))),
            }
        }
        bail!("no node answers ({})", failures.join("; "))
    }

    fn addresses(&self) -> anyhow::Result<Vec<String>> {
        let given: Vec<String> = self.address.iter().filter(|address| !address.is_empty()).cloned().collect();
        if !given.is_empty() {
            return Ok(given);
        }
        let from_file = match &self.config_file {
            Some(path) => profile_address(path, &self.profile)?,
            None => None,
        };
        Ok(vec![from_file.unwrap_or_else(|| ADDRESS_DEFAULT.to_string())])
    }
}

/// The address in a profile of the official CLI's configuration file.
fn profile_address(path: &Path, profile: &str) -> anyhow::Result<Option<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
    let value = file.get("profile").and_then(|profiles| profiles.get(profile)).and_then(|known| known.get("address"));
    Ok(value.and_then(toml::Value::as_str).map(str::to_string))
}

/// The cluster, as the node that is asked sees it.
pub(super) async fn status(admin: &mut Admin) -> anyhow::Result<ClusterStatusResponse> {
    Ok(admin.cluster_status(ClusterStatusRequest {}).await.map_err(refused)?.into_inner())
}

/// Finds a member by its id or name. Removed members are found by their id only.
pub(super) fn find(status: &ClusterStatusResponse, node: &str) -> anyhow::Result<u64> {
    use bristlecone_proto::record::member::State;
    if let Ok(id) = node.parse::<u64>() {
        ensure!(status.members.iter().any(|member| member.node_id == id), "the cluster has no node {id}");
        return Ok(id);
    }
    let mut named = status.members.iter().filter(|m| m.name == node && m.state() != State::Removed);
    match (named.next(), named.next()) {
        (Some(member), None) => Ok(member.node_id),
        (None, _) => bail!("the cluster has no node named {node}"),
        (Some(_), Some(_)) => bail!("several nodes are named {node}: say the id"),
    }
}

/// A refusal in words.
pub(in crate::cli) fn refused(status: Status) -> anyhow::Error {
    let message = status.message();
    match status.code() {
        Code::Unimplemented => anyhow!("the server at this address is not a Bristlecone node ({message})"),
        Code::DeadlineExceeded | Code::Cancelled => anyhow!("not answered in time; it may still happen ({message})"),
        Code::Unavailable => anyhow!("unavailable: {message}"),
        code if message.is_empty() => anyhow!("{code}"),
        _ => anyhow!("{message}"),
    }
}

/// What a change that may take long came to: prints it, and what is left when the time ran out.
pub(super) fn print_change(output: Output, node_id: u64, done: &str, left: u32, of_what: &str) -> Outcome {
    match output {
        Output::Json => {
            say(format_args!("{:#}", serde_json::json!({ "node_id": node_id, "done": left == 0, "left": left })));
        }
        Output::Table if left == 0 => say(format_args!("node {node_id} {done}")),
        Output::Table => {
            say(format_args!("node {node_id}: {left} {of_what} left when the time ran out; it goes on, ask again"));
        }
    }
    if left == 0 { Outcome::Done } else { Outcome::Unhealthy }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::record::{Member, member::State};

    #[test]
    fn members_are_found_by_id_and_name() {
        let member = |node_id, name: &str, state: State| Member {
            node_id,
            name: name.into(),
            state: state.into(),
            ..Member::default()
        };
        let members = vec![
            member(1, "a", State::Removed),
            member(2, "a", State::Active),
            member(3, "b", State::Active),
            member(4, "b", State::Draining),
        ];
        let status = ClusterStatusResponse { members, ..ClusterStatusResponse::default() };
        assert_eq!(find(&status, "a").expect("one that is not removed"), 2);
        assert_eq!(find(&status, "1").expect("by id"), 1);
        for (node, says) in [("b", "say the id"), ("c", "no node named c"), ("9", "no node 9")] {
            assert!(find(&status, node).expect_err(node).to_string().contains(says));
        }
    }

    #[test]
    fn profiles_of_the_official_cli_are_read() {
        let path = std::env::temp_dir().join(format!("bristlecone-profile-{}.toml", std::process::id()));
        std::fs::write(&path, "[profile.default]\naddress = 'a:1'\n[profile.prod]\naddress = 'b:2'").expect("written");
        assert_eq!(profile_address(&path, "prod").expect("read"), Some("b:2".to_string()));
        assert_eq!(profile_address(&path, "none").expect("read"), None);
        std::fs::remove_file(&path).expect("removed");
        assert!(profile_address(&path, "default").is_err());
    }
}
