//! Queries of the workflows that are there, whoever started them.

use anyhow::{Context, ensure};
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus as Status;
use bristlecone_proto::temporal::api::workflowservice::v1::{
    CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest,
};

use super::client::Client;

const PAGE: i32 = 20;
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// A page by three predicates, the latest start first, and what it shows checked against them.
pub async fn page(client: &Client, number: u64) -> anyhow::Result<()> {
    let since = jiff::Timestamp::try_from(std::time::SystemTime::now() - DAY)?;
    // Closed and open ones in turn.
    let (name, status) =
        if number.is_multiple_of(2) { ("Completed", Status::Completed) } else { ("Running", Status::Running) };
    let request = ListWorkflowExecutionsRequest {
        namespace: client.namespace(),
        page_size: PAGE,
        query: format!(
            "WorkflowType = 'bench' AND ExecutionStatus = '{name}' AND StartTime > '{since}' ORDER BY StartTime DESC"
        ),
        ..ListWorkflowExecutionsRequest::default()
    };
    let listed = client.call(|mut service| {
        let request = request.clone();
        async move { service.list_workflow_executions(request).await }
    });
    let listed = listed.await.context("a page")?;
    let starts: Vec<_> = listed.executions.iter().map(|found| found.start_time.map(|t| (t.seconds, t.nanos))).collect();
    ensure!(starts.is_sorted_by(|one, next| one >= next), "a page is out of order");
    let fits = listed
        .executions
        .iter()
        .all(|found| found.status() == status && found.r#type.as_ref().is_some_and(|kind| kind.name == "bench"));
    ensure!(fits, "a page shows what was not asked for");
    Ok(())
}

/// Workflows by status.
pub async fn count(client: &Client) -> anyhow::Result<()> {
    let request =
        CountWorkflowExecutionsRequest { namespace: client.namespace(), query: "GROUP BY ExecutionStatus".into() };
    let counted = client.call(|mut service| {
        let request = request.clone();
        async move { service.count_workflow_executions(request).await }
    });
    let counted = counted.await.context("a count")?;
    let sum: i64 = counted.groups.iter().map(|group| group.count).sum();
    ensure!(sum == counted.count, "the groups of a count are {sum} in all, not {}", counted.count);
    Ok(())
}
