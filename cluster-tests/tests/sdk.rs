//! Workers of the Rust SDK on node 3, a client on node 2, leaders anywhere: everything that a worker asks for.

use std::time::Duration;

use anyhow::ensure;
use bristlecone_cluster_tests::api::{Api, check_history};
use bristlecone_cluster_tests::work::{
    AwaitsOutside, CancelsActivity, CancelsOther, CleansUp, CountsDown, Fails, FailsOnce, Greeting, Inbox, Leaves,
    LocalActivities, Parent, Retries, Sleeper, Timeouts, Timers, WAITING, last_end,
};
use bristlecone_cluster_tests::worker::{Worker, client};
use bristlecone_cluster_tests::{Cluster, until, within};
use futures::TryStreamExt;
use temporalio_client::errors::WorkflowGetResultError;
use temporalio_client::{
    ActivityIdentifier, Client, WorkflowCancelOptions, WorkflowDescribeOptions, WorkflowGetResultOptions,
    WorkflowHandle, WorkflowListOptions, WorkflowQueryOptions, WorkflowSignalOptions, WorkflowStartOptions,
    WorkflowTerminateOptions,
};
use temporalio_common::{HasWorkflowDefinition, RetryPolicy};

/// How long one workflow of these may take.
const TIME: Duration = Duration::from_secs(60);
const QUEUE: &str = "sdk";

/// A cluster with a worker on node 3 and a client on node 2.
struct Stage {
    worker: Worker,
    client: Client,
    cluster: Cluster,
}

impl Stage {
    async fn set(name: &str) -> Self {
        let cluster = Cluster::start(name, 3).await;
        let worker = Worker::start(&cluster.address(3), QUEUE).await;
        let client = client(&cluster.address(2)).await;
        Self { worker, client, cluster }
    }

    async fn clear(self) {
        self.worker.stop().await;
        drop(self.cluster);
    }

    async fn start<W>(&self, workflow: W, input: impl Into<W::Input>, id: &str) -> WorkflowHandle<Client, W>
    where
        W: HasWorkflowDefinition,
        W::Input: Send,
    {
        let options = WorkflowStartOptions::new(QUEUE, id).build();
        self.client.start_workflow(workflow, input.into(), options).await.expect("it starts")
    }

    async fn run<W>(
        &self,
        workflow: W,
        input: impl Into<W::Input>,
        id: &str,
    ) -> Result<W::Output, WorkflowGetResultError>
    where
        W: HasWorkflowDefinition,
        W::Input: Send,
    {
        result(&self.start(workflow, input, id).await).await
    }
}

async fn result<W: HasWorkflowDefinition>(
    handle: &WorkflowHandle<Client, W>,
) -> Result<W::Output, WorkflowGetResultError> {
    within("a workflow", TIME, handle.get_result(WorkflowGetResultOptions::default())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn activities() {
    let stage = Stage::set("activities").await;
    assert_eq!(stage.run(Greeting::run, "World".to_string(), "greeting").await.expect("done"), "Hello, World!");

    let (third, resumed, failures) = stage.run(Retries::run, (), "retries").await.expect("done");
    assert_eq!((third, resumed), (3, 6));
    assert_eq!(failures, ["not yet", "broken"]);

    let timeouts = stage.run(Timeouts::run, (), "timeouts").await.expect("done");
    assert_eq!(timeouts, ["StartToClose", "ScheduleToClose", "ScheduleToStart", "Heartbeat"]);

    for waits in [false, true] {
        let id = format!("cancels-{waits}");
        assert_eq!(stage.run(CancelsActivity::run, waits, &id).await.expect("done"), "cancelled");
        until("the activity's end", TIME, || async { last_end(&id).ok_or("it has not heard of it") }).await;
    }

    let handle = stage.start(AwaitsOutside::run, "outside".to_string(), "awaits").await;
    until("the activity's start", TIME, || async {
        WAITING.lock().expect("unpoisoned").iter().any(|id| id == "outside").then_some(()).ok_or("not started")
    })
    .await;
    let outside = ActivityIdentifier::by_id_workflow("awaits", "", "outside");
    let outside = stage.client.get_async_activity_handle(outside);
    outside.heartbeat(Some("alive".to_string()), Default::default()).await.expect("it is known");
    outside.complete(Some("by id".to_string()), Default::default()).await.expect("it is known");
    assert_eq!(result(&handle).await.expect("done"), "by id");

    let local = stage.run(LocalActivities::run, (), "local").await.expect("done");
    assert_eq!(local, ("Hello, local!".to_string(), 3, true, true));
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_signals_and_queries() {
    let mut stage = Stage::set("signals").await;
    let took = stage.run(Timers::run, (), "timers").await.expect("done");
    assert!((600..10_000).contains(&took), "{took}");

    let handle = stage.start(Inbox::run, (), "inbox").await;
    put(&handle, "a").await;
    put(&handle, "b").await;
    // A query reflects what was acknowledged before it.
    assert_eq!(seen(&handle).await, ["a", "b"]);

    // A worker without the workflow in its cache, on another node, answers just the same.
    stage.worker.stop().await;
    stage.worker = Worker::with(&stage.cluster.address(1), QUEUE, 0).await;
    assert_eq!(seen(&handle).await, ["a", "b"]);
    put(&handle, "done").await;
    assert_eq!(result(&handle).await.expect("done"), ["a", "b", "done"]);
    assert_eq!(seen(&handle).await, ["a", "b", "done"]);

    for item in ["first", "done"] {
        let options = WorkflowStartOptions::new(QUEUE, "signalled").build();
        let client = &stage.client;
        let handle = client.signal_with_start_workflow(Inbox::run, (), Inbox::put, item.to_string(), options);
        let handle = handle.await.expect("started or signalled");
        if item == "done" {
            assert_eq!(result(&handle).await.expect("done"), ["first", "done"]);
        }
    }
    stage.clear().await;
}

async fn put(handle: &WorkflowHandle<Client, <Inbox as HasWorkflowDefinition>::Run>, item: &str) {
    handle.signal(Inbox::put, item.to_string(), WorkflowSignalOptions::default()).await.expect("it is open");
}

async fn seen(handle: &WorkflowHandle<Client, <Inbox as HasWorkflowDefinition>::Run>) -> Vec<String> {
    let query = handle.query(Inbox::seen, (), WorkflowQueryOptions::default());
    within("a query", TIME, query).await.expect("answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn children_and_other_workflows() {
    let stage = Stage::set("children").await;
    let said = stage.run(Parent::run, "p".to_string(), "p").await.expect("done");
    assert_eq!(said, ["Hello, child!", "one done", "cancelled", "child fails", "not found"]);

    stage.run(Leaves::run, "l".to_string(), "l").await.expect("done");
    for (child, expected) in [("l-terminate", "Terminated"), ("l-cancel", "Canceled"), ("l-abandon", "Running")] {
        wait_status(&stage.cluster, child, expected).await;
    }

    let other = stage.start(Sleeper::run, (), "other").await;
    assert_eq!(stage.run(CancelsOther::run, "other".to_string(), "cancels").await.expect("done"), "asked");
    assert!(matches!(result(&other).await, Err(WorkflowGetResultError::Cancelled { .. })));

    assert_eq!(stage.run(CountsDown::run, 3u32, "counts").await.expect("done"), "landed");
    let runs = Api::new(&stage.cluster.addresses()).list("WorkflowId = 'counts'").await.expect("listed");
    assert_eq!(runs.len(), 4);
    stage.clear().await;
}

async fn wait_status(cluster: &Cluster, workflow_id: &str, expected: &str) {
    let api = Api::new(&cluster.addresses());
    until(&format!("{workflow_id} {expected}"), TIME, || async {
        let info = api.describe(workflow_id).await?;
        let status = format!("{:?}", info.status());
        ensure!(status == expected, "it is {status}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_every_kind() {
    let stage = Stage::set("ends").await;
    let cleans_up = stage.start(CleansUp::run, (), "cleans-up").await;
    cleans_up.cancel(WorkflowCancelOptions::default()).await.expect("it is open");
    assert_eq!(result(&cleans_up).await.expect("done"), "Hello, cleanup!");

    let sleeper = stage.start(Sleeper::run, (), "cancelled").await;
    sleeper.cancel(WorkflowCancelOptions::default()).await.expect("it is open");
    assert!(matches!(result(&sleeper).await, Err(WorkflowGetResultError::Cancelled { .. })));

    let sleeper = stage.start(Sleeper::run, (), "terminated").await;
    sleeper.terminate(WorkflowTerminateOptions::default()).await.expect("it is open");
    assert!(matches!(result(&sleeper).await, Err(WorkflowGetResultError::Terminated { .. })));
    sleeper.terminate(WorkflowTerminateOptions::default()).await.expect_err("it is closed");

    let failed = stage.run(Fails::run, "it".to_string(), "fails").await;
    assert!(failed.expect_err("it fails").to_string().contains("it fails"));

    let late = WorkflowStartOptions::new(QUEUE, "late").run_timeout(Duration::from_secs(1)).build();
    let late = stage.client.start_workflow(Sleeper::run, (), late).await.expect("it starts");
    assert!(matches!(result(&late).await, Err(WorkflowGetResultError::TimedOut)));

    let retry = RetryPolicy::builder().initial_interval(Duration::from_millis(100)).build();
    let retried = WorkflowStartOptions::new(QUEUE, "retried").retry_policy(retry).build();
    let retried = stage.client.start_workflow(FailsOnce::run, (), retried).await.expect("it starts");
    assert_eq!(result(&retried).await.expect("its second run succeeds"), 2);

    stage.start(Sleeper::run, (), "taken").await;
    let again = WorkflowStartOptions::new(QUEUE, "taken").build();
    let taken = stage.client.start_workflow(Sleeper::run, (), again).await;
    assert!(taken.err().expect("one at a time").to_string().to_lowercase().contains("already"));
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_workflows() {
    let stage = Stage::set("listing").await;
    for number in 0..3 {
        stage.run(Greeting::run, number.to_string(), &format!("greeting-{number}")).await.expect("done");
    }
    let open = stage.start(Sleeper::run, (), "open").await;
    let described = open.describe(WorkflowDescribeOptions::default()).await.expect("it is there");
    assert_eq!((described.workflow_type(), described.task_queue()), ("Sleeper", QUEUE));

    // A listing shows what was acknowledged before it.
    for (query, expected) in [
        ("WorkflowType = 'Greeting'", vec!["greeting-0", "greeting-1", "greeting-2"]),
        ("ExecutionStatus = 'Running'", vec!["open"]),
        ("WorkflowId = 'greeting-1'", vec!["greeting-1"]),
        ("WorkflowType = 'Greeting' AND ExecutionStatus = 'Running'", vec![]),
    ] {
        let listed = stage.client.list_workflows(query, WorkflowListOptions::default());
        let listed: Vec<_> = within("a listing", TIME, listed.try_collect()).await.expect("listed");
        let mut ids: Vec<&str> = listed.iter().map(temporalio_client::WorkflowExecution::id).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{query}");
    }

    // Whichever node is asked, the history is the same.
    let mut told = Vec::new();
    for address in stage.cluster.addresses() {
        let events = Api::new(&[address]).history("greeting-2", "").await.expect("it is there");
        check_history(&events).expect("a sound history");
        told.push(events);
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]));
    stage.clear().await;
}
