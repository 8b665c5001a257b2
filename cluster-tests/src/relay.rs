//! Stands between clients and workers on one side and a node on the other, and does to requests what happens to them
//! on their way: each arrives several times, in another order and through several nodes, or long after it was sent.
//!
//! # Contract
//! A request that reached the relay is delivered, whatever becomes of whoever sent it. Of the answers to its copies
//! the first that is no refusal goes back. Polls go once: a task that a copy of a poll took would reach nobody.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use rand::RngExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tower::ServiceExt;

use crate::wait::pass;

/// Copies of a request beside the first, at most.
const COPIES_MAX: u64 = 2;
const GRPC_STATUS: &str = "grpc-status";
/// How long after the first a copy leaves, at most: longer than the next request of its sender takes.
const COPY_LATE_MS: u64 = 120;

/// A relay to a node.
#[derive(Debug)]
pub struct Relay {
    pub address: String,
    state: Arc<State>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    repeats: bool,
    held: watch::Sender<bool>,
    copies: AtomicU64,
    refused: AtomicU64,
}

impl Relay {
    /// Requests go to the first of these nodes, and copies of them, if it `repeats`, to the others.
    pub async fn start(nodes: &[String], repeats: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let connect =
            |node: &String| Endpoint::from_shared(format!("http://{node}")).expect("an address").connect_lazy();
        let held = watch::Sender::new(false);
        let state = Arc::new(State { repeats, held, copies: AtomicU64::new(0), refused: AtomicU64::new(0) });
        let door = Door { nodes: nodes.iter().map(connect).collect(), state: Arc::clone(&state) };
        let server = tokio::spawn(async move {
            let served = Server::builder().add_service(door).serve_with_incoming(TcpIncoming::from(listener));
            served.await.expect("the relay serves");
        });
        Self { address, state, server }
    }

    /// Nothing passes any more, in neither direction, as when those behind it hang.
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    /// All that was held goes on.
    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// Copies that were delivered.
    pub fn copies(&self) -> u64 {
        self.state.copies.load(Ordering::Relaxed)
    }

    /// Completions of tasks that were refused because the task was somebody else's by then, or done.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug, Clone)]
struct Door {
    nodes: Vec<Channel>,
    state: Arc<State>,
}

impl NamedService for Door {
    const NAME: &'static str = "temporal.api.workflowservice.v1.WorkflowService";
}

impl tower::Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let door = self.clone();
        async move { Ok(door.pass(request).await.unwrap_or_else(Status::into_http)) }.boxed()
    }
}

impl Door {
    async fn pass(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let rpc = parts.uri.path().rsplit('/').next().unwrap_or_default().to_string();
        let further = if self.state.repeats && changes(&rpc) { rand::rng().random_range(1..=COPIES_MAX) } else { 0 };
        let copies: FuturesUnordered<_> = (0..=further)
            .zip(self.nodes.iter().cycle())
            .map(|(copy, node)| {
                let late = if copy == 0 { 0 } else { rand::rng().random_range(0..=COPY_LATE_MS) };
                let sent = deliver(Arc::clone(&self.state), node.clone(), parts.clone(), body.clone(), late);
                // A task of its own: it goes on when nobody waits for it any more.
                tokio::spawn(sent)
            })
            .collect();
        self.state.copies.fetch_add(further, Ordering::Relaxed);
        let answer = first_good(copies).await?;
        if rpc.starts_with("Respond") && answer.code == Code::NotFound {
            self.state.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer.into_http())
    }
}

/// Whether a request changes anything when it is taken.
fn changes(rpc: &str) -> bool {
    !["Poll", "Get", "Describe", "List", "Count"].iter().any(|reads| rpc.starts_with(reads))
}

/// An answer that has come as a whole.
struct Answer {
    code: Code,
    parts: http::response::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn into_http(self) -> Response<Body> {
        let trailers = self.trailers.map(Ok);
        Response::from_parts(self.parts, Body::new(Full::new(self.body).with_trailers(async move { trailers })))
    }
}

async fn deliver(
    state: Arc<State>,
    node: Channel,
    parts: http::request::Parts,
    body: Bytes,
    late_ms: u64,
) -> Result<Answer, Status> {
    let mut held = state.held.subscribe();
    let gone = |_| Status::unavailable("the relay is gone");
    held.wait_for(|held| !*held).await.map_err(gone)?;
    pass(Duration::from_millis(late_ms)).await;
    let request = Request::from_parts(parts, Body::new(Full::new(body)));
    let response = node.oneshot(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    let status = trailers.as_ref().and_then(|trailers| trailers.get(GRPC_STATUS));
    let status = status.or_else(|| parts.headers.get(GRPC_STATUS));
    let code = status.map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()));
    held.wait_for(|held| !*held).await.map_err(gone)?;
    Ok(Answer { code, parts, body: body.to_bytes(), trailers })
}

async fn first_good(mut copies: FuturesUnordered<JoinHandle<Result<Answer, Status>>>) -> Result<Answer, Status> {
    let mut last = Err(Status::unavailable("no answer"));
    while let Some(copy) = copies.next().await {
        let answer = copy.unwrap_or_else(|_| Err(Status::unavailable("the relay is gone")));
        if answer.as_ref().is_ok_and(|answer| answer.code == Code::Ok) {
            return answer;
        }
        last = answer;
    }
    last
}
