//! Schedules that are due once each.

use std::time::Duration;

use anyhow::Context;
use bristlecone_proto::temporal::api::common::v1::WorkflowType;
use bristlecone_proto::temporal::api::schedule::v1::schedule_action::Action;
use bristlecone_proto::temporal::api::schedule::v1::{
    IntervalSpec, Schedule, ScheduleAction, ScheduleSpec, ScheduleState,
};
use bristlecone_proto::temporal::api::workflow::v1::NewWorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::{CreateScheduleRequest, DeleteScheduleRequest};

use super::client::Client;
use super::plan::Plan;

/// No schedule comes round again while a run lasts.
const INTERVAL: Duration = Duration::from_secs(86_400);

pub async fn create(client: &Client, plan: &Plan, number: u64) -> anyhow::Result<()> {
    let phase = Duration::from_secs(plan.due(number) % INTERVAL.as_secs());
    let workflow = NewWorkflowExecutionInfo {
        workflow_id: plan.schedule_id(number),
        workflow_type: Some(WorkflowType { name: "bench".into() }),
        task_queue: Some(plan.task_queue()),
        input: Some(plan.payload.clone()),
        ..NewWorkflowExecutionInfo::default()
    };
    let interval = IntervalSpec {
        interval: prost_types::Duration::try_from(INTERVAL).ok(),
        phase: prost_types::Duration::try_from(phase).ok(),
    };
    let request = CreateScheduleRequest {
        namespace: client.namespace(),
        schedule_id: plan.schedule_id(number),
        schedule: Some(Schedule {
            spec: Some(ScheduleSpec { interval: vec![interval], ..ScheduleSpec::default() }),
            action: Some(ScheduleAction { action: Some(Action::StartWorkflow(workflow)) }),
            state: Some(ScheduleState { limited_actions: true, remaining_actions: 1, ..ScheduleState::default() }),
            policies: None,
        }),
        request_id: format!("{}-create", plan.schedule_id(number)),
        ..CreateScheduleRequest::default()
    };
    let created = client.call(|mut service| {
        let request = request.clone();
        async move { service.create_schedule(request).await }
    });
    created.await.with_context(|| format!("schedule {}", plan.schedule_id(number)))?;
    Ok(())
}

pub async fn delete(client: &Client, plan: &Plan, number: u64) -> anyhow::Result<()> {
    let request = DeleteScheduleRequest {
        namespace: client.namespace(),
        schedule_id: plan.schedule_id(number),
        ..DeleteScheduleRequest::default()
    };
    let deleted = client.call(|mut service| {
        let request = request.clone();
        async move { service.delete_schedule(request).await }
    });
    deleted.await.with_context(|| format!("schedule {}", plan.schedule_id(number)))?;
    Ok(())
}
