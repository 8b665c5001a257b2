//! The way from a client to a node's API: calls arrive late, not at all, or twice, and so do answers.
//!
//! # Contract
//! A handler runs among the node's tasks, so it dies with the node; then, and whenever the wire loses something,
//! the caller hears UNAVAILABLE and cannot know what was done.

use std::sync::Arc;
use std::task::{Context, Poll};

use bristlecone_proto::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{self, sleep};
use tonic::Status;
use tonic::body::Body;

use super::node::{SimNode, Up};
use super::options::Options;
use super::rng::Rng;
use super::tally::Tally;

/// How long callers wait that said nothing.
const PATIENCE: time::Duration = time::Duration::from_secs(30);

pub type Service = WorkflowServiceClient<Wire>;

/// A connection of a client to one node.
#[derive(Debug, Clone)]
pub struct Wire {
    pub node: Arc<SimNode>,
    pub weather: Arc<Weather>,
}

/// What happens to calls on their way.
#[derive(Debug)]
pub struct Weather {
    rng: Mutex<Rng>,
    options: Options,
    calm: std::sync::atomic::AtomicBool,
    tally: Arc<Tally>,
}

#[derive(Debug, Clone, Copy)]
struct Fate {
    there: time::Duration,
    back: time::Duration,
    again_after: time::Duration,
    lost: bool,
    answer_lost: bool,
    doubled: bool,
    given_up_after: Option<time::Duration>,
}

impl Weather {
    pub fn new(options: &Options, tally: Arc<Tally>) -> Self {
        let rng = Mutex::new(Rng::of(options.seed, "weather"));
        Self { rng, options: options.clone(), calm: false.into(), tally }
    }

    /// From now on nothing is lost.
    pub fn calm(&self) {
        self.calm.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn draw(&self) -> Fate {
        let rng = &mut *self.rng.lock();
        let options = &self.options;
        let calm = self.calm.load(std::sync::atomic::Ordering::Relaxed);
        let mut chance = |per_mille: u64, name: &'static str| {
            let hit = rng.per_mille(per_mille) && !calm;
            if hit {
                self.tally.count(name);
            }
            hit
        };
        let lost = chance(options.lost, "call lost");
        let answer_lost = chance(options.answers_lost, "answer lost");
        let doubled = chance(options.doubled, "call doubled");
        let given_up = chance(options.given_up, "call given up");
        Fate {
            there: rng.millis(0..=options.call_ms_max),
            back: rng.millis(0..=options.call_ms_max),
            again_after: rng.millis(0..=200),
            lost,
            answer_lost,
            doubled,
            given_up_after: given_up.then(|| rng.millis(0..=20)),
        }
    }
}

impl tower::Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        carry(self.clone(), request).boxed()
    }
}

async fn carry(wire: Wire, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let fate = wire.weather.draw();
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    sleep(fate.there).await;
    if fate.lost {
        return Err(Status::unavailable("the call was lost"));
    }
    let patience = timeout_of(&parts).unwrap_or(PATIENCE);
    let up = wire.node.up().ok_or_else(|| Status::unavailable("connection refused"))?;
    let first = deliver(&up, parts.clone(), bytes.clone());
    if fate.doubled {
        let node = Arc::clone(&wire.node);
        tokio::spawn(async move {
            sleep(fate.again_after).await;
            if let Some(up) = node.up() {
                // Nobody waits for the second answer.
                drop(deliver(&up, parts, bytes).1.await);
            }
        });
    }
    let (handler, answer) = first;
    let patience = fate.given_up_after.unwrap_or(patience);
    let Ok(answered) = time::timeout(patience, answer).await else {
        // As when a client goes away: the server drops the handler wherever it waits.
        handler.abort();
        return Err(Status::unavailable("the caller gave up"));
    };
    let response = answered.map_err(|_| Status::unavailable("connection lost"))?;
    sleep(fate.back).await;
    if fate.answer_lost { Err(Status::unavailable("the answer was lost")) } else { Ok(response) }
}

/// How long the caller waits: a moment longer than it told the server, as clients do.
fn timeout_of(parts: &http::request::Parts) -> Option<time::Duration> {
    let text = parts.headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    let timeout = match unit {
        "n" => time::Duration::from_nanos(number),
        "u" => time::Duration::from_micros(number),
        "m" => time::Duration::from_millis(number),
        "S" => time::Duration::from_secs(number),
        "M" => time::Duration::from_secs(number * 60),
        _ => return None,
    };
    Some(timeout + time::Duration::from_millis(200))
}

/// Runs a handler among the node's tasks.
fn deliver(
    up: &Up,
    parts: http::request::Parts,
    bytes: Bytes,
) -> (tokio::task::AbortHandle, oneshot::Receiver<http::Response<Body>>) {
    let (sender, receiver) = oneshot::channel();
    let mut service = up.service.clone();
    let handler = up.tasks.spawn(async move {
        let request = http::Request::from_parts(parts, Body::new(Full::new(bytes)));
        let Ok(response) = tower::Service::call(&mut service, request).await;
        let (parts, body) = response.into_parts();
        if let Ok(body) = body.collect().await {
            // Whoever asked may be gone.
            drop(sender.send(http::Response::from_parts(parts, Body::new(body))));
        }
    });
    (handler, receiver)
}
