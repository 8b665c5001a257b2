//! Workflows that deal with other workflows.

use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{ChildWorkflowOptions, ParentClosePolicy, SignalWorkflowOptions, WorkflowContext, WorkflowResult};

use super::workflows::{Fails, Greeting, Inbox, Sleeper};

/// Starts children, signals one in two ways, cancels one, and meets one that fails and one that is not there.
#[workflow]
#[derive(Default)]
pub struct Parent;

#[workflow_methods]
impl Parent {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, prefix: String) -> WorkflowResult<Vec<String>> {
        let id = |name: &str| ChildWorkflowOptions::workflow_id(format!("{prefix}-{name}"));
        let mut said = Vec::new();
        let greeting = ctx.start_child_workflow(Greeting::run, "child".to_string(), id("greeting")).await?;
        said.push(greeting.result().await?);

        let inbox = ctx.start_child_workflow(Inbox::run, (), id("inbox")).await?;
        inbox.signal(Inbox::put, "one".to_string(), SignalWorkflowOptions::default()).await?;
        let outside = ctx.external_workflow(format!("{prefix}-inbox"), None);
        outside.signal(Inbox::put, "done".to_string(), SignalWorkflowOptions::default()).await?;
        said.push(inbox.result().await?.join(" "));

        let sleeper = ctx.start_child_workflow(Sleeper::run, (), id("sleeper")).await?;
        sleeper.cancel("enough".to_string());
        said.push(match sleeper.result().await {
            Err(error) if error.as_cancelled().is_some() => "cancelled".to_string(),
            other => format!("{other:?}"),
        });

        let fails = ctx.start_child_workflow(Fails::run, "child".to_string(), id("fails")).await?;
        said.push(match fails.result().await {
            Err(error) => error.cause().map_or_else(String::new, |cause| cause.failure().message.clone()),
            Ok(()) => "ended".to_string(),
        });

        let nobody = ctx.external_workflow(format!("{prefix}-nobody"), None);
        let sent = nobody.signal(Inbox::put, "x".to_string(), SignalWorkflowOptions::default()).await;
        said.push(if sent.is_err() { "not found".to_string() } else { "delivered".to_string() });
        Ok(said)
    }
}

/// Starts a child with each parent-close policy and ends.
#[workflow]
#[derive(Default)]
pub struct Leaves;

#[workflow_methods]
impl Leaves {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, prefix: String) -> WorkflowResult<()> {
        for (name, policy) in [
            ("abandon", ParentClosePolicy::Abandon),
            ("terminate", ParentClosePolicy::Terminate),
            ("cancel", ParentClosePolicy::RequestCancel),
        ] {
            let options = ChildWorkflowOptions::builder()
                .workflow_id(format!("{prefix}-{name}"))
                .parent_close_policy(policy)
                .build();
            ctx.start_child_workflow(Sleeper::run, (), options).await?;
        }
        Ok(())
    }
}

#[workflow]
#[derive(Default)]
pub struct CancelsOther;

#[workflow_methods]
impl CancelsOther {
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, other: String) -> WorkflowResult<String> {
        ctx.external_workflow(other, None).cancel(Some("asked to".to_string())).await?;
        Ok("asked".to_string())
    }
}
