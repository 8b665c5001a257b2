//! temporal.api.workflowservice.v1.WorkflowService: one file per RPC.

#![expect(deprecated, reason = "older SDKs use what the API has deprecated since")]

pub mod count_workflow_executions;
pub mod delete_workflow_execution;
pub mod deprecate_namespace;
pub mod describe_namespace;
pub mod describe_task_queue;
pub mod describe_worker;
pub mod describe_workflow_execution;
pub mod get_cluster_info;
pub mod get_search_attributes;
pub mod get_system_info;
pub mod get_workflow_execution_history;
pub mod get_workflow_execution_history_reverse;
pub mod list_closed_workflow_executions;
pub mod list_namespaces;
pub mod list_open_workflow_executions;
pub mod list_task_queue_partitions;
pub mod list_workers;
pub mod list_workflow_executions;
pub mod poll_activity_task_queue;
pub mod poll_nexus_task_queue;
pub mod poll_workflow_task_queue;
pub mod query_workflow;
pub mod record_activity_task_heartbeat;
pub mod record_activity_task_heartbeat_by_id;
pub mod record_worker_heartbeat;
pub mod register_namespace;
pub mod request_cancel_workflow_execution;
pub mod reset_sticky_task_queue;
pub mod respond_activity_task_canceled;
pub mod respond_activity_task_canceled_by_id;
pub mod respond_activity_task_completed;
pub mod respond_activity_task_completed_by_id;
pub mod respond_activity_task_failed;
pub mod respond_activity_task_failed_by_id;
pub mod respond_query_task_completed;
pub mod respond_workflow_task_completed;
pub mod respond_workflow_task_failed;
pub mod scan_workflow_executions;
pub mod shutdown_worker;
pub mod signal_with_start_workflow_execution;
pub mod signal_workflow_execution;
pub mod start_workflow_execution;
pub mod terminate_workflow_execution;
pub mod update_namespace;
