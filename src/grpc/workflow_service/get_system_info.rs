//! GetSystemInfo: the first call of every client, which chooses features by the answer.

use bristlecone_proto::temporal::api::workflowservice::v1::get_system_info_response::Capabilities;
use bristlecone_proto::temporal::api::workflowservice::v1::{GetSystemInfoRequest, GetSystemInfoResponse};

use crate::grpc::call::Call;
use crate::grpc::{Edge, Result, SERVER_VERSION};

pub async fn handle(_: Edge, _: Call, _: GetSystemInfoRequest) -> Result<GetSystemInfoResponse> {
    Ok(GetSystemInfoResponse {
        server_version: SERVER_VERSION.to_owned(),
        capabilities: Some(Capabilities {
            signal_and_query_header: true,
            internal_error_differentiation: true,
            activity_failure_include_heartbeat: true,
            encoded_failure_attributes: true,
            upsert_memo: true,
            eager_workflow_start: true,
            sdk_metadata: true,
            count_group_by_execution_status: true,
            // Workers tell their builds: histories and polls name them.
            build_id_based_versioning: true,
            supports_schedules: true,
            nexus: false,
            server_scaled_deployments: false,
            server_scaled_provider_cloud_run: false,
        }),
    })
}
