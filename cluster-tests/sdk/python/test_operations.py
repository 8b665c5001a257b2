"""What operators do: pause workflows, change their options, operate many at once, delete namespaces."""

import asyncio
import json
import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import activity, workflow
from temporalio.api.batch.v1 import (
    BatchOperationDeletion,
    BatchOperationReset,
    BatchOperationSignal,
    BatchOperationTermination,
    BatchOperationUpdateWorkflowExecutionOptions,
)
from temporalio.api.common.v1 import Priority, ResetOptions, WorkflowExecution
from temporalio.api.enums.v1 import BatchOperationState, BatchOperationType, EventType, WorkflowExecutionStatus
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    CountWorkersRequest,
    DeleteWorkflowExecutionRequest,
    DescribeBatchOperationRequest,
    DescribeNamespaceRequest,
    DescribeWorkflowExecutionRequest,
    ListBatchOperationsRequest,
    PauseWorkflowExecutionRequest,
    PollActivityTaskQueueRequest,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    QueryWorkflowRequest,
    RecordWorkerHeartbeatRequest,
    RegisterNamespaceRequest,
    ShutdownWorkerRequest,
    StartBatchOperationRequest,
    StopBatchOperationRequest,
    UnpauseWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from conftest import CLUSTER, NODES, cluster, until


@activity.defn
async def step(number: int) -> int:
    return number


@workflow.defn
class Steps:
    """Does a step for each signal until it is told to end."""

    def __init__(self) -> None:
        self.waiting = 0
        self.done = 0
        self.ended = False

    @workflow.run
    async def run(self) -> int:
        while True:
            await workflow.wait_condition(lambda: self.ended or self.waiting > 0)
            if self.waiting == 0:
                return self.done
            self.waiting -= 1
            await workflow.execute_activity(step, self.done, start_to_close_timeout=timedelta(seconds=10))
            self.done += 1

    @workflow.signal
    def go(self) -> None:
        self.waiting += 1

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.query
    def count(self) -> int:
        return self.done


def steps_worker(client, queue):
    return Worker(client, task_queue=queue, workflows=[Steps], activities=[step])


async def describe(client, workflow_id):
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    return await client.workflow_service.describe_workflow_execution(request)


async def events_of(client, workflow_id, run_id=None):
    history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
    return list(history.events)


def of_type(events, event_type):
    return [event for event in events if event.event_type == event_type]


async def refused(call):
    with pytest.raises(RPCError) as error:
        await call
    return error.value.status, error.value.message


async def test_pause_and_unpause(client, clients, worker_client, name):
    request = DescribeNamespaceRequest(namespace=client.namespace)
    namespace = await client.workflow_service.describe_namespace(request)
    pause = PauseWorkflowExecutionRequest(
        namespace=client.namespace, workflow_id=name, reason="to look at it", identity="me", request_id="once"
    )
    if not namespace.namespace_info.capabilities.workflow_pause:
        status, message = await refused(client.workflow_service.pause_workflow_execution(pause))
        assert (status, message) == (
            RPCStatusCode.UNIMPLEMENTED,
            "workflow pause is not enabled for namespace: default",
        )
        pytest.skip("frontend.WorkflowPauseEnabled is not set")
    async with steps_worker(worker_client, name):
        handle = await client.start_workflow(Steps.run, id=name, task_queue=name)
        await handle.signal(Steps.go)

        async def did(count):
            return await handle.query(Steps.count) == count

        await until(lambda: did(1))
        await client.workflow_service.pause_workflow_execution(pause)
        await client.workflow_service.pause_workflow_execution(pause)
        again = PauseWorkflowExecutionRequest(namespace=client.namespace, workflow_id=name)
        assert await refused(client.workflow_service.pause_workflow_execution(again)) == (
            RPCStatusCode.FAILED_PRECONDITION,
            "workflow is already paused.",
        )
        description = await describe(clients[0], name)
        assert description.workflow_execution_info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED
        assert description.workflow_extended_info.pause_info.reason == "to look at it"
        assert description.workflow_extended_info.pause_info.identity == "me"
        query = f"WorkflowId='{name}' AND ExecutionStatus='Paused' AND TemporalPauseInfo='Workflow:{name}'"
        assert (await client.count_workflows(query)).count == 1

        # Signals are taken; no workflow task tells the worker.
        before = len(await events_of(client, name))
        for _ in range(3):
            await handle.signal(Steps.go)
        # Asked in the API's own terms: the SDK's list of statuses does not have this one.
        rejected = await client.workflow_service.query_workflow(
            QueryWorkflowRequest(
                namespace=client.namespace,
                execution=WorkflowExecution(workflow_id=name),
                query=WorkflowQuery(query_type="count"),
            )
        )
        assert rejected.query_rejected.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED
        await asyncio.sleep(1)
        assert len(await events_of(client, name)) == before + 3

        unpause = UnpauseWorkflowExecutionRequest(namespace=client.namespace, workflow_id=name, reason="seen")
        await client.workflow_service.unpause_workflow_execution(unpause)
        assert await refused(client.workflow_service.unpause_workflow_execution(unpause)) == (
            RPCStatusCode.FAILED_PRECONDITION,
            "workflow is not paused.",
        )
        await until(lambda: did(4))
        await handle.signal(Steps.end)
        assert await handle.result() == 4
        assert (await client.count_workflows(f"WorkflowId='{name}' AND TemporalPauseInfo IS NULL")).count == 1


async def test_options(client, clients, name):
    await client.start_workflow("Idle", id=name, task_queue=name)

    def update(paths, **options):
        return client.workflow_service.update_workflow_execution_options(
            UpdateWorkflowExecutionOptionsRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=name),
                workflow_execution_options=WorkflowExecutionOptions(**options),
                update_mask=FieldMask(paths=paths),
                identity="me",
            )
        )

    answer = await update(["priority"], priority=Priority(priority_key=1, fairness_key="tenant"))
    assert answer.workflow_execution_options.priority.priority_key == 1
    answer = await update(["priority.fairness_key"], priority=Priority(priority_key=5))
    assert answer.workflow_execution_options.priority == Priority(priority_key=1)
    assert (await update([])).workflow_execution_options.priority.priority_key == 1
    assert (await describe(clients[0], name)).workflow_execution_info.priority.priority_key == 1
    updates = of_type(await events_of(client, name), EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED)
    assert [event.workflow_execution_options_updated_event_attributes.identity for event in updates] == ["me", "me"]
    assert all(event.worker_may_ignore for event in updates)
    status, message = await refused(update(["colour"]))
    assert status == RPCStatusCode.INVALID_ARGUMENT and message.startswith("error parsing UpdateMask:"), message
    await client.get_workflow_handle(name).terminate()
    assert (await refused(update(["priority"])))[0] == RPCStatusCode.NOT_FOUND


# ---------------------------------------------------------------- batch operations


async def start_many(client, name, count, workflow_type="Idle"):
    """Workflows that wait for nobody in particular."""
    at_once = asyncio.Semaphore(100)

    async def start(number):
        async with at_once:
            return await client.start_workflow(workflow_type, id=f"{name}-{number}", task_queue=name)

    return await asyncio.gather(*(start(number) for number in range(count)))


def batch(client, job_id, **options):
    options = {"namespace": client.namespace, "job_id": job_id, "reason": "a test", **options}
    return client.workflow_service.start_batch_operation(StartBatchOperationRequest(**options))


async def job(client, job_id):
    request = DescribeBatchOperationRequest(namespace=client.namespace, job_id=job_id)
    return await client.workflow_service.describe_batch_operation(request)


async def finished(client, job_id, seconds=30):
    async def is_over():
        try:
            return (await job(client, job_id)).state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING
        except RPCError as error:
            # A shard may be without a leader for a moment.
            assert error.status == RPCStatusCode.UNAVAILABLE, error
            return False

    await until(is_over, seconds)
    return await job(client, job_id)


async def one_batch(client, job_id, **options):
    """Jobs of a namespace run one at a time."""

    async def begun():
        try:
            await batch(client, job_id, **options)
            return True
        except RPCError as error:
            assert error.status == RPCStatusCode.RESOURCE_EXHAUSTED, error
            return False

    await until(begun, 60)
    done = await finished(client, job_id)
    assert done.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED, done
    return done


async def test_mistakes_with_batches(client, name):
    terminate = BatchOperationTermination()
    required = "must provide required parameters: BatchType/Reason/Namespace/Query/Executions"
    assert await refused(batch(client, name, termination_operation=terminate)) == (
        RPCStatusCode.INVALID_ARGUMENT,
        required,
    )
    status, message = await refused(batch(client, name, visibility_query="()", termination_operation=terminate))
    assert status == RPCStatusCode.INVALID_ARGUMENT and message.startswith("invalid visibility query:"), message
    assert (await refused(job(client, name)))[0] == RPCStatusCode.NOT_FOUND
    request = StopBatchOperationRequest(namespace=client.namespace, job_id=name)
    assert await refused(client.workflow_service.stop_batch_operation(request)) == (
        RPCStatusCode.INVALID_ARGUMENT,
        "Reason is not set on request.",
    )


async def test_every_operation(client, worker_client, name):
    handles = await start_many(client, name, 5)
    query = f"TaskQueue='{name}'"
    ids = [handle.id for handle in handles]

    async def count(condition):
        return (await client.count_workflows(f"{query} AND {condition}")).count

    # By name: one of the executions is not there, which is as good as done.
    executions = [WorkflowExecution(workflow_id=workflow_id) for workflow_id in [*ids[:2], f"{name}-none"]]
    signal = BatchOperationSignal(signal="hello", identity="me")
    done = await one_batch(client, f"{name}-signal", executions=executions, signal_operation=signal)
    assert done.operation_type == BatchOperationType.BATCH_OPERATION_TYPE_SIGNAL
    assert (done.identity, done.reason) == ("me", "a test")
    assert (done.total_operation_count, done.complete_operation_count, done.failure_operation_count) == (3, 3, 0)
    for number, workflow_id in enumerate(ids):
        signals = of_type(await events_of(client, workflow_id), EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
        assert len(signals) == (1 if number < 2 else 0)

    options = BatchOperationUpdateWorkflowExecutionOptions(
        workflow_execution_options=WorkflowExecutionOptions(priority=Priority(priority_key=2)),
        update_mask=FieldMask(paths=["priority"]),
    )
    done = await one_batch(
        client, f"{name}-options", visibility_query=query, update_workflow_options_operation=options
    )
    assert done.complete_operation_count == 5
    assert (await describe(client, ids[4])).workflow_execution_info.priority.priority_key == 2

    async with steps_worker(worker_client, f"{name}-steps"):
        reset = [
            await client.start_workflow(Steps.run, id=f"{name}-reset-{n}", task_queue=f"{name}-steps") for n in range(3)
        ]
        for handle in reset:
            await handle.signal(Steps.go)
            await handle.signal(Steps.end)
            assert await handle.result() == 1
        done = await one_batch(
            client,
            f"{name}-reset",
            visibility_query=f"TaskQueue='{name}-steps'",
            reset_operation=BatchOperationReset(options=ResetOptions(first_workflow_task={})),
        )
        assert done.complete_operation_count == 3, done
        for handle in reset:
            again = client.get_workflow_handle(handle.id)
            assert await again.result() == 1
            assert (await again.describe()).run_id != handle.first_execution_run_id

    done = await one_batch(
        client, f"{name}-cancel", executions=executions[:1], cancellation_operation={"identity": "me"}
    )
    cancels = of_type(await events_of(client, ids[0]), EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
    assert [event.workflow_execution_cancel_requested_event_attributes.identity for event in cancels] == ["me"]

    done = await one_batch(
        client, f"{name}-terminate", visibility_query=query, termination_operation=BatchOperationTermination()
    )
    assert done.complete_operation_count == 5 and await count("ExecutionStatus='Terminated'") == 5
    done = await one_batch(client, f"{name}-delete", visibility_query=query, deletion_operation=BatchOperationDeletion())
    assert done.complete_operation_count == 5 and await count("StartTime IS NOT NULL") == 0

    # Jobs are no workflows of the user's, and their ids are taken.
    listed = await client.workflow_service.list_batch_operations(
        ListBatchOperationsRequest(namespace=client.namespace, page_size=100)
    )
    assert f"{name}-delete" in [info.job_id for info in listed.operation_info]
    assert (await client.count_workflows(f"WorkflowId='{name}-delete'")).count == 0
    status, _ = await refused(
        batch(client, f"{name}-delete", visibility_query=query, deletion_operation=BatchOperationDeletion())
    )
    assert status in (RPCStatusCode.ALREADY_EXISTS, RPCStatusCode.RESOURCE_EXHAUSTED)


async def test_a_batch_is_stopped(client, name):
    await start_many(client, name, 60)
    slowly = {"visibility_query": f"TaskQueue='{name}'", "max_operations_per_second": 2}

    async def begun():
        try:
            await batch(client, name, termination_operation=BatchOperationTermination(), **slowly)
            return True
        except RPCError as error:
            assert error.status == RPCStatusCode.RESOURCE_EXHAUSTED, error
            return False

    await until(begun, 60)
    # Only one at a time.
    second = batch(
        client, f"{name}-2", visibility_query="WorkflowType='T'", termination_operation=BatchOperationTermination()
    )
    assert await refused(second) == (RPCStatusCode.RESOURCE_EXHAUSTED, "Max concurrent batch operations is reached")

    async def is_under_way():
        described = await job(client, name)
        return described.total_operation_count == 60 and described.complete_operation_count > 0

    await until(is_under_way)
    stop = StopBatchOperationRequest(namespace=client.namespace, job_id=name, reason="enough", identity="me")
    await client.workflow_service.stop_batch_operation(stop)
    assert (await job(client, name)).state == BatchOperationState.BATCH_OPERATION_STATE_FAILED
    await asyncio.sleep(3)
    running = f"TaskQueue='{name}' AND ExecutionStatus='Running'"
    left = (await client.count_workflows(running)).count
    await asyncio.sleep(2)
    assert (await client.count_workflows(running)).count == left > 30


async def test_a_batch_of_a_thousand_survives_its_nodes(clients, name):
    """Every node dies once by kill -9 while a job signals a thousand workflows: each is signalled once."""
    count = 1000
    client = clients[1]
    handles = await start_many(client, name, count)
    signal = BatchOperationSignal(signal="hello", identity="me")

    async def begun():
        try:
            await batch(client, name, visibility_query=f"TaskQueue='{name}'", signal_operation=signal)
            return True
        except RPCError as error:
            assert error.status == RPCStatusCode.RESOURCE_EXHAUSTED, error
            return False

    await until(begun, 60)
    for node, others in (("1", clients[1]), ("2", clients[2]), ("3", clients[0])):

        async def goes_on(seen=-1):
            try:
                described = await job(others, name)
            except RPCError:
                return False
            return described.complete_operation_count > seen

        await until(goes_on, 40)
        await asyncio.to_thread(cluster, "kill", node)
        await asyncio.sleep(2)
        await asyncio.to_thread(cluster, "start", node)
    done = await finished(clients[0], name, 120)
    assert done.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED, done
    counts = (done.total_operation_count, done.complete_operation_count, done.failure_operation_count)
    assert counts == (count, count, 0)
    fresh = await Client.connect(NODES[1])
    at_once = asyncio.Semaphore(50)

    async def signals(handle):
        async with at_once:
            events = await events_of(fresh, handle.id)
            return len(of_type(events, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED))

    assert set(await asyncio.gather(*(signals(handle) for handle in handles))) == {1}


test_a_batch_of_a_thousand_survives_its_nodes.seconds = 300


# ---------------------------------------------------------------- deletion


async def test_deleting_workflows(client, worker_client, name):
    async with steps_worker(worker_client, name):
        closed = await client.start_workflow(Steps.run, id=f"{name}-closed", task_queue=name)
        await closed.signal(Steps.end)
        await closed.result()
    opened = await client.start_workflow("Idle", id=f"{name}-open", task_queue=f"{name}-idle")
    for handle in (closed, opened):
        request = DeleteWorkflowExecutionRequest(
            namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id=handle.id)
        )
        await client.workflow_service.delete_workflow_execution(request)
        assert (await refused(describe(client, handle.id)))[0] == RPCStatusCode.NOT_FOUND
        assert (await refused(client.workflow_service.delete_workflow_execution(request)))[0] == RPCStatusCode.NOT_FOUND
        assert (await client.count_workflows(f"WorkflowId='{handle.id}'")).count == 0
    # The id is free at once.
    await client.start_workflow("Idle", id=opened.id, task_queue=f"{name}-idle")
    await client.get_workflow_handle(opened.id).terminate()


async def test_a_deleted_namespace_leaves_nothing(client, clients, name):
    namespace = f"deleted-{name}"
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=namespace, workflow_execution_retention_period=Duration(seconds=24 * 3600)
        )
    )
    theirs = [await Client.connect(node, namespace=namespace) for node in NODES]
    described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    namespace_id = described.namespace_info.id
    await start_many(theirs[0], name, 200)
    async with steps_worker(theirs[1], f"{name}-steps"):
        for number in range(10):
            handle = await theirs[2].start_workflow(Steps.run, id=f"{name}-{number}-s", task_queue=f"{name}-steps")
            await handle.signal(Steps.go)
            await handle.signal(Steps.end)
            assert await handle.result() == 1
    answer = await client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace=namespace))
    assert answer.deleted_namespace == f"{namespace}-deleted-{namespace_id[:5]}"
    assert await refused(client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace=namespace))) == (
        RPCStatusCode.INVALID_ARGUMENT,
        f"namespace {namespace} is not found",
    )
    assert (await refused(theirs[0].count_workflows("")))[0] == RPCStatusCode.NOT_FOUND
    # While one node is gone the others go on.
    await asyncio.to_thread(cluster, "kill", "1")

    async def is_gone():
        try:
            await clients[1].workflow_service.describe_namespace(DescribeNamespaceRequest(id=namespace_id))
        except RPCError as error:
            return error.status == RPCStatusCode.NOT_FOUND
        return False

    try:
        await until(is_gone, 60)
    finally:
        await asyncio.to_thread(cluster, "start", "1")

    # On no node is there a row of it any more, nor a run that no listing knows.
    for node in (3, 2, 1):
        await asyncio.to_thread(cluster, "stop", str(node))
    try:
        for node in (1, 2, 3):
            rows = await asyncio.to_thread(rows_of, node, namespace_id)
            assert sum(rows.values()) == 0, (node, rows)
    finally:
        for node in (1, 2, 3):
            await asyncio.to_thread(cluster, "start", str(node))


test_a_deleted_namespace_leaves_nothing.seconds = 180


def rows_of(node, namespace_id):
    """Rows by table that a stopped node has of a namespace."""
    directory = Path(os.environ.get("BRISTLECONE_CLUSTER_DIR", CLUSTER.parents[1] / ".cluster"))
    target = Path(os.environ.get("CARGO_TARGET_DIR", CLUSTER.parents[1] / "target"))
    program = os.environ.get("BRISTLECONE_BIN", str(target / "release" / "bristlecone"))
    command = [program, "debug", "rows", "--data-dir", directory / f"n{node}" / "data", "--namespace", namespace_id]
    out = subprocess.run([*command, "-o", "json"], check=True, capture_output=True, timeout=60).stdout
    return {name: count for name, count in json.loads(out).items() if name not in ("runs", "history", "others")}


async def test_workers_are_counted_on_every_node(client, clients, name):
    heartbeats = [
        WorkerHeartbeat(worker_instance_key=f"{name}-{number}", worker_identity=name, task_queue=f"{name}-{number % 2}")
        for number in range(3)
    ]
    request = RecordWorkerHeartbeatRequest(namespace="default", identity=name, worker_heartbeat=heartbeats)
    await client.workflow_service.record_worker_heartbeat(request)

    async def count(at, query):
        counted = await at.workflow_service.count_workers(CountWorkersRequest(namespace="default", query=query))
        return counted.count

    for at in clients:
        await until(lambda at=at: _is(count(at, f'WorkerIdentity="{name}"'), 3))
        assert await count(at, f'WorkerIdentity="{name}" AND TaskQueue="{name}-0"') == 2
    with pytest.raises(RPCError) as refused:
        await count(client, "WorkerIdentity")
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT


async def _is(found, wanted):
    return await found == wanted


async def test_the_polls_of_a_worker_that_says_goodbye_end_on_every_node(client, clients, name):
    polls = [
        ("poll_workflow_task_queue", PollWorkflowTaskQueueRequest),
        ("poll_activity_task_queue", PollActivityTaskQueueRequest),
        ("poll_nexus_task_queue", PollNexusTaskQueueRequest),
    ]

    def poll(at, call, request):
        of = {"namespace": "default", "task_queue": TaskQueue(name=name), "identity": name}
        return asyncio.create_task(getattr(at.workflow_service, call)(request(**of, worker_instance_key=name)))

    waiting = [poll(at, call, request) for at in clients for call, request in polls]
    await asyncio.wait(waiting, timeout=1)
    assert not any(one.done() for one in waiting)
    goodbye = ShutdownWorkerRequest(namespace="default", identity=name, task_queue=name, worker_instance_key=name)
    await client.workflow_service.shutdown_worker(goodbye)
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    # Those that were still on their way end, too.
    late = [poll(at, call, request) for at in clients for call, request in polls]
    answers += await asyncio.wait_for(asyncio.gather(*late), 10)
    assert not any(answer.task_token for answer in answers)
