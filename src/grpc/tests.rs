//! A handler behind a real socket: what clients see of sizes, compression, errors and panics.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::google::rpc;
use bristlecone_proto::temporal::api::common::v1::{Payload, Payloads};
use bristlecone_proto::temporal::api::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    SignalWorkflowExecutionRequest, SignalWorkflowExecutionResponse,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};

use super::call::Call;
use super::observe::{Meter, REQUEST_BYTES_MAX};
use super::rpcs::serve;
use super::{Result, errors};

/// One handler, called whatever the path is.
#[derive(Clone)]
struct Probe {
    meter: Arc<Meter>,
    /// Told when a handler begins to wait, and when it is given up.
    waiting: mpsc::UnboundedSender<&'static str>,
}

impl tower::Service<http::Request<Body>> for Probe {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<std::result::Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { meter, waiting } = self.clone();
        async move {
            let call = Call::of(request.headers(), Instant::now());
            let work = serve(request, signal(call.clone(), waiting));
            Ok(meter.observe(&call, work).await)
        }
        .boxed()
    }
}

type Handled = BoxFuture<'static, Result<SignalWorkflowExecutionResponse>>;

/// Does what the signal's name says.
fn signal(
    call: Call,
    waiting: mpsc::UnboundedSender<&'static str>,
) -> impl FnOnce(SignalWorkflowExecutionRequest) -> Handled + Send + 'static {
    move |request| {
        async move {
            match request.signal_name.as_str() {
                "take" => Ok(SignalWorkflowExecutionResponse::default()),
                "reject" => Err(errors::namespace_not_found(&request.namespace)),
                "panic" => panic!("as it was told"),
                "wait" => {
                    let _tell = Waiting::begin(waiting);
                    std::future::pending().await
                }
                _ => Err(reply::invalid_argument(format!("left: {:?}", call.deadline.map(|d| d - call.started)))),
            }
        }
        .boxed()
    }
}

struct Waiting(mpsc::UnboundedSender<&'static str>);

impl Waiting {
    fn begin(told: mpsc::UnboundedSender<&'static str>) -> Self {
        // Most tests don't listen.
        let _ = told.send("waits");
        Self(told)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.send("given up");
    }
}

async fn client() -> WorkflowServiceClient<Channel> {
    client_of(mpsc::unbounded_channel().0).await
}

async fn client_of(waiting: mpsc::UnboundedSender<&'static str>) -> WorkflowServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let probe = Probe { meter: Arc::new(Meter::new("Probe")), waiting };
    tokio::spawn(Server::builder().serve_with_incoming(probe, TcpListenerStream::new(listener)));
    WorkflowServiceClient::connect(format!("http://{address}")).await.expect("it listens")
}

fn request(signal_name: &str, input_bytes: usize) -> Request<SignalWorkflowExecutionRequest> {
    let payload = Payload { data: vec![7; input_bytes].into(), ..Payload::default() };
    let mut request = Request::new(SignalWorkflowExecutionRequest {
        namespace: "shop".into(),
        signal_name: signal_name.into(),
        input: Some(Payloads { payloads: vec![payload] }),
        ..SignalWorkflowExecutionRequest::default()
    });
    request.set_timeout(Duration::from_secs(30));
    request
}

async fn outcome<A>(call: impl Future<Output = std::result::Result<tonic::Response<A>, Status>>) -> (Code, String) {
    match call.await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_in_the_words_that_sdks_know() {
    let mut client = client().await;
    for bytes in [REQUEST_BYTES_MAX, 3 * REQUEST_BYTES_MAX] {
        let (code, message) = outcome(client.signal_workflow_execution(request("take", bytes))).await;
        assert_eq!(code, Code::ResourceExhausted, "{message}");
        let bytes = request("take", bytes).get_ref().encoded_len();
        assert_eq!(message, format!("grpc: received message larger than max ({bytes} vs. 4194304)"));
    }
    let overhead = request("take", REQUEST_BYTES_MAX).get_ref().encoded_len() - REQUEST_BYTES_MAX;
    let fits = REQUEST_BYTES_MAX - overhead;
    assert_eq!(outcome(client.signal_workflow_execution(request("take", fits))).await, (Code::Ok, String::new()));
}

#[tokio::test]
async fn compressed_requests_are_taken_and_measured_when_decompressed() {
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = client().await.send_compressed(encoding);
        let small = outcome(client.signal_workflow_execution(request("take", 1 << 20))).await;
        assert_eq!(small, (Code::Ok, String::new()), "{encoding:?}");
        let (code, message) = outcome(client.signal_workflow_execution(request("take", 16 << 20))).await;
        assert_eq!(code, Code::ResourceExhausted, "{encoding:?}: {message}");
        assert_eq!(message, "grpc: message after decompression larger than max 4194304", "{encoding:?}");
    }
}

#[tokio::test]
async fn rejections_arrive_with_their_details() {
    let failed = client().await.signal_workflow_execution(request("reject", 0)).await.expect_err("it is rejected");
    assert_eq!((failed.code(), failed.message()), (Code::NotFound, "Namespace shop is not found."));
    let details = rpc::Status::decode(failed.details()).expect("a google.rpc.Status").details;
    let urls: Vec<_> = details.iter().map(|detail| detail.type_url.as_str()).collect();
    assert_eq!(urls, ["type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure"]);
}

#[tokio::test]
async fn deadlines_reach_the_handler_and_end_it() {
    let mut client = client().await;
    let (_, message) = outcome(client.signal_workflow_execution(request("tell", 0))).await;
    assert_eq!(message, "left: Some(30s)");
    let mut waiting = request("wait", 0);
    waiting.set_timeout(Duration::from_millis(50));
    let (code, _) = outcome(client.signal_workflow_execution(waiting)).await;
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_work() {
    let (waiting, mut told) = mpsc::unbounded_channel();
    let mut client = client_of(waiting).await;
    let calling = tokio::spawn(async move { outcome(client.signal_workflow_execution(request("wait", 0))).await });
    assert_eq!(told.recv().await, Some("waits"));
    calling.abort();
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), told.recv()).await, Ok(Some("given up")));
}

#[tokio::test]
async fn a_panic_costs_one_call() {
    let mut client = client().await;
    let panicked = outcome(client.signal_workflow_execution(request("panic", 0))).await;
    assert_eq!(panicked, (Code::Internal, "internal error".into()));
    assert_eq!(outcome(client.signal_workflow_execution(request("take", 0))).await, (Code::Ok, String::new()));
}
