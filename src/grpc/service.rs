//! From a path of a request to the handler of its RPC.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bristlecone_proto::{API_DESCRIPTORS, OWN_DESCRIPTORS};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tonic_reflection::server::Builder;
use tower::ServiceExt;

use super::call::Call;
use super::observe::Meter;
use super::rates::Quota;
use super::rpcs::{RPCS, Rpc, methods};
use super::{Edge, errors, off, status, version};

/// The API, health and reflection, and whatever else the node offers on its API port.
#[derive(Clone)]
pub struct ApiService {
    edge: Edge,
    /// By path.
    methods: Arc<HashMap<String, Method>>,
    others: Routes,
}

struct Method {
    meter: Meter,
    quota: Quota,
    /// `None`: the API has it and this server does not.
    rpc: Option<&'static Rpc>,
}

impl ApiService {
    /// `own`: further services. To be called once the program's metrics recorder is installed.
    pub fn new(edge: Edge, own: Routes) -> Self {
        let methods = methods().into_iter().map(|(service, name)| {
            let path = format!("/{service}/{name}");
            let rpc = RPCS.iter().find(|rpc| rpc.service == service && rpc.name == name);
            // Methods that are not served share a label: their names come from the descriptors.
            let meter = Meter::new(rpc.map_or("Unimplemented", |rpc| rpc.name));
            let quota = Quota::of(&name);
            (path, Method { meter, quota, rpc })
        });
        let methods = Arc::new(methods.collect());
        // SDKs compress whatever they send.
        let health = HealthServer::new(HealthService::from_health_reporter(edge.health()))
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let others = own.add_service(health);
        let others = add_reflection(others);
        Self { edge, methods, others }
    }

    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        let Some(method) = self.methods.get(request.uri().path()) else {
            return match self.others.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        };
        let call = Call::of(request.headers(), Instant::now());
        let Some(rpc) = method.rpc else {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            let refusal = off::refusal(name).unwrap_or_else(|| errors::unimplemented(name));
            let refused = status::of(refusal).into_http();
            return method.meter.observe(&call, std::future::ready(refused)).await;
        };
        if let Err(rejection) = version::check(request.headers()) {
            let refused = status::of(rejection).into_http();
            return method.meter.observe(&call, std::future::ready(refused)).await;
        }
        let edge = match self.edge.admit(rpc.name, method.quota) {
            Ok(edge) => edge,
            Err(rejection) => {
                let refused = status::of(rejection).into_http();
                return method.meter.observe(&call, std::future::ready(refused)).await;
            }
        };
        let work = (rpc.serve)(edge, call.clone(), request);
        method.meter.observe(&call, work).await
    }
}

impl tower::Service<http::Request<Body>> for ApiService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.clone().serve(request).map(Ok).boxed()
    }
}

impl std::fmt::Debug for ApiService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiService")
    }
}

fn add_reflection(routes: Routes) -> Routes {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(API_DESCRIPTORS)
            .register_encoded_file_descriptor_set(OWN_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors are generated with this program";
    let v1 = builder().build_v1().expect(valid).accept_compressed(CompressionEncoding::Gzip);
    let v1alpha = builder().build_v1alpha().expect(valid).accept_compressed(CompressionEncoding::Gzip);
    routes.add_service(v1).add_service(v1alpha)
}
