//! Connections to the server's nodes, and calls that are made again until they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use bristlecone_proto::temporal::api::workflowservice::v1::DescribeNamespaceRequest;
use bristlecone_proto::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

pub type Service = WorkflowServiceClient<Channel>;

/// HTTP/2 connections to each node: one alone would be a bottleneck of the generator's.
const CONNECTIONS: usize = 4;
/// A server may still be starting.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a call is made again that is not answered.
const CALL_TIME: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
const MESSAGE_MAX: usize = 128 << 20;

/// The server's nodes; clones share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    namespace: String,
    services: Vec<Service>,
    next: AtomicUsize,
    repeated: AtomicU64,
}

impl Client {
    pub async fn connect(targets: &[String], namespace: &str) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        for _ in 0..CONNECTIONS {
            for target in targets {
                let endpoint = Endpoint::from_shared(format!("http://{target}"));
                let endpoint = endpoint.with_context(|| format!("{target:?} is not HOST:PORT"))?;
                let endpoint = endpoint.connect_timeout(CONNECT_TIME).tcp_nodelay(true);
                let channel = endpoint.connect_lazy();
                services.push(Service::new(channel).max_decoding_message_size(MESSAGE_MAX));
            }
        }
        let inner = Inner {
            namespace: namespace.to_string(),
            services,
            next: AtomicUsize::new(0),
            repeated: AtomicU64::new(0),
        };
        let client = Self { inner: Arc::new(inner) };
        let request =
            DescribeNamespaceRequest { namespace: namespace.to_string(), ..DescribeNamespaceRequest::default() };
        let answered = client.call(|mut service| {
            let request = request.clone();
            async move { service.describe_namespace(request).await }
        });
        answered.await.with_context(|| format!("namespace {namespace} at {}", targets.join(", ")))?;
        Ok(client)
    }

    pub fn namespace(&self) -> String {
        self.inner.namespace.clone()
    }

    /// A connection; the next one each time.
    pub fn service(&self) -> Service {
        let next = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let services = &self.inner.services;
        services.get(next % services.len().max(1)).cloned().expect("one at least: connecting needs a target")
    }

    /// Calls that had to be made again so far.
    pub fn repeated(&self) -> u64 {
        self.inner.repeated.load(Ordering::Relaxed)
    }

    /// Makes a call until it is answered, at other nodes from the second time on.
    ///
    /// # Errors
    /// The server refuses it, or has not answered for a minute.
    pub async fn call<T, F>(&self, call: impl Fn(Service) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + CALL_TIME;
        loop {
            match call(self.service()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if is_passing(&status) && Instant::now() < until => {
                    self.inner.repeated.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(status),
            }
        }
    }
}

/// Whether another attempt may be answered differently.
pub fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Aborted
            | Code::Cancelled
            | Code::Internal
    )
}
