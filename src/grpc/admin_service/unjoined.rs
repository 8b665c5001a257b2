//! The operator's service of a node that belongs to no cluster yet: it takes `JoinNode` and nothing else.

use anyhow::{Context, bail};
use bristlecone_proto::admin::admin_service_server::{AdminService, AdminServiceServer};
use bristlecone_proto::admin::{
    CheckVisibilityRequest, CheckVisibilityResponse, ClusterStatusRequest, ClusterStatusResponse, DrainNodeRequest,
    DrainNodeResponse, JoinNodeRequest, JoinNodeResponse, LeaveNodeRequest, LeaveNodeResponse, RemoveNodeRequest,
    RemoveNodeResponse, TransferLeaderRequest, TransferLeaderResponse, UndrainNodeRequest, UndrainNodeResponse,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Answers on `listener` until somebody names a seed, and closes it.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener) -> anyhow::Result<String> {
    let (told, mut seeds) = mpsc::channel(1);
    let service = AdminServiceServer::new(Unjoined { told });
    let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
    tokio::select! {
        served = serving => {
            served.context("the listener failed")?;
            bail!("the listener was closed")
        }
        // Connections are tasks of their own: the answer leaves although the listener is gone.
        seed = seeds.recv() => seed.context("nobody can name a seed any more"),
    }
}

#[derive(Debug)]
struct Unjoined {
    told: mpsc::Sender<String>,
}

fn not_a_member<T>() -> Result<Response<T>, Status> {
    Err(Status::failed_precondition("this node belongs to no cluster yet: join it to one first"))
}

#[tonic::async_trait]
impl AdminService for Unjoined {
    async fn join_node(&self, request: Request<JoinNodeRequest>) -> Result<Response<JoinNodeResponse>, Status> {
        let seed = request.into_inner().seed;
        let port = seed.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err(Status::invalid_argument(format!("{seed:?} is not HOST:PORT")));
        }
        match self.told.try_send(seed) {
            // Its number is known when it has joined; ClusterStatus at the same address tells it.
            Ok(()) => Ok(Response::new(JoinNodeResponse { node_id: 0 })),
            Err(_) => Err(Status::failed_precondition("this node is joining a cluster already")),
        }
    }

    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        not_a_member()
    }

    async fn drain_node(&self, _: Request<DrainNodeRequest>) -> Result<Response<DrainNodeResponse>, Status> {
        not_a_member()
    }

    async fn undrain_node(&self, _: Request<UndrainNodeRequest>) -> Result<Response<UndrainNodeResponse>, Status> {
        not_a_member()
    }

    async fn leave_node(&self, _: Request<LeaveNodeRequest>) -> Result<Response<LeaveNodeResponse>, Status> {
        not_a_member()
    }

    async fn remove_node(&self, _: Request<RemoveNodeRequest>) -> Result<Response<RemoveNodeResponse>, Status> {
        not_a_member()
    }

    async fn transfer_leader(
        &self,
        _: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        not_a_member()
    }

    async fn check_visibility(
        &self,
        _: Request<CheckVisibilityRequest>,
    ) -> Result<Response<CheckVisibilityResponse>, Status> {
        not_a_member()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::admin::admin_service_client::AdminServiceClient;
    use tonic::Code;

    #[tokio::test]
    async fn it_takes_a_seed_once_and_frees_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let caller = async move {
            let mut admin = AdminServiceClient::connect(format!("http://{address}")).await.expect("listening");
            let code = |status: Status| status.code();
            let join = |seed: &str| JoinNodeRequest { seed: seed.to_string() };
            let status = admin.cluster_status(ClusterStatusRequest {}).await.map_err(code);
            assert_eq!(status.expect_err("no member"), Code::FailedPrecondition);
            assert_eq!(
                admin.join_node(join("nowhere")).await.map_err(code).expect_err("no port"),
                Code::InvalidArgument
            );
            admin.join_node(join("127.0.0.1:7234")).await.expect("taken");
            let again = admin.join_node(join("127.0.0.1:7234")).await.map_err(code);
            assert_eq!(again.expect_err("only once"), Code::FailedPrecondition);
        };
        let (seed, ()) = tokio::join!(serve(listener), caller);
        assert_eq!(seed.expect("told"), "127.0.0.1:7234");
        TcpListener::bind(address).await.expect("the port is free again");
    }
}
