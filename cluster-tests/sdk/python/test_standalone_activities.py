"""Activities without a workflow, and the queues that they wait in."""

import asyncio
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import ActivityIdConflictPolicy, PendingActivityState, TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DeleteActivityExecutionRequest,
    DescribeActivityExecutionRequest,
    DescribeTaskQueueRequest,
    DescribeWorkflowExecutionRequest,
    StartActivityExecutionRequest,
    UpdateTaskQueueConfigRequest,
)
from temporalio.api.common.v1 import ActivityType, Callback, Link, OnConflictOptions, WorkflowExecution
from temporalio.client import ActivityExecutionStatus, ActivityFailureError
from temporalio.common import ActivityIDConflictPolicy, ActivityIDReusePolicy, Priority, RetryPolicy
from temporalio.exceptions import ActivityAlreadyStartedError, ApplicationError, TerminatedError, TimeoutError
from temporalio.service import RPCError, RPCStatusCode

import activities
from conftest import cluster, make_worker, until

TEN = timedelta(seconds=10)


def start(client, activity, *args, name, suffix="", **options):
    options.setdefault("start_to_close_timeout", TEN)
    return client.start_activity(activity, args=args, id=name + suffix, task_queue=name, **options)


async def test_a_result_and_its_description(client, clients, worker, name):
    handle = await start(client, activities.greet, "World", name=name, summary="says hello")
    assert await handle.result() == "Hello, World!"
    for other in clients:
        description = await other.get_activity_handle(name, run_id=handle.run_id).describe()
        assert description.status == ActivityExecutionStatus.COMPLETED
        assert (description.activity_type, description.attempt) == ("greet", 1)
        assert description.close_time is not None and description.last_worker_identity


async def test_attempts_and_failures(client, worker, name):
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=50))
    assert await (await start(client, activities.fail_until, 3, name=name, suffix="-retries", retry_policy=policy)).result() == 3
    assert await (await start(client, activities.count_with_heartbeats, 10, name=name, suffix="-beats", retry_policy=policy)).result() == [6, 10]
    with pytest.raises(ActivityFailureError) as failure:
        await (await start(client, activities.fail_for_good, "never", name=name, suffix="-fails")).result()
    assert isinstance(failure.value.cause, ApplicationError) and failure.value.cause.type == "ForGood"


async def test_timeouts(client, worker, name):
    short = timedelta(milliseconds=400)
    once = RetryPolicy(maximum_attempts=1)
    kinds = {
        "START_TO_CLOSE": dict(start_to_close_timeout=short, retry_policy=once),
        "HEARTBEAT": dict(heartbeat_timeout=short, retry_policy=once),
        "SCHEDULE_TO_CLOSE": dict(schedule_to_close_timeout=short, start_to_close_timeout=None),
    }
    for kind, options in kinds.items():
        handle = await start(client, activities.hang, False, name=name, suffix=kind, **options)
        with pytest.raises(ActivityFailureError) as failure:
            await handle.result()
        assert isinstance(failure.value.cause, TimeoutError), kind
        assert (await handle.describe()).status == ActivityExecutionStatus.TIMED_OUT
    nobody = await client.start_activity(
        activities.greet, "x", id=name, task_queue=name + "-nobody", start_to_close_timeout=TEN, schedule_to_start_timeout=short
    )
    with pytest.raises(ActivityFailureError):
        await nobody.result()


async def test_cancel_and_terminate(client, worker, name):
    handle = await start(client, activities.hang, True, name=name, heartbeat_timeout=TEN)

    async def started():
        return (await handle.describe()).last_started_time is not None

    await until(started)
    await handle.cancel(reason="enough")
    with pytest.raises(ActivityFailureError):
        await handle.result()
    description = await handle.describe()
    assert (description.status, description.canceled_reason) == (ActivityExecutionStatus.CANCELED, "enough")

    handle = await start(client, activities.hang, True, name=name, suffix="-2", heartbeat_timeout=TEN)
    await handle.terminate(reason="at once")
    with pytest.raises(ActivityFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, TerminatedError) and "at once" in str(failure.value.cause)


async def test_ids_and_policies(client, worker, name):
    first = await start(client, activities.hang, True, name=name, heartbeat_timeout=TEN)
    with pytest.raises(ActivityAlreadyStartedError):
        await start(client, activities.greet, "x", name=name)
    same = await start(client, activities.greet, "x", name=name, id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING)
    assert same.run_id == first.run_id
    await first.terminate()
    again = await start(client, activities.greet, "x", name=name, id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)
    assert again.run_id != first.run_id and await again.result() == "Hello, x!"
    with pytest.raises(ActivityAlreadyStartedError):
        await start(client, activities.greet, "x", name=name, id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)
    assert (await first.describe()).status == ActivityExecutionStatus.TERMINATED


async def test_what_a_second_start_attaches(client, clients, name):
    """Nobody works: the first run stays open, and a request that is attached finds it, on any node."""

    def begin(through, request_id, **options):
        request = StartActivityExecutionRequest(
            namespace=client.namespace,
            request_id=request_id,
            activity_id=name,
            activity_type=ActivityType(name="greet"),
            task_queue=TaskQueue(name=name),
            start_to_close_timeout=Duration(seconds=10),
            **options,
        )
        return through.workflow_service.start_activity_execution(request)

    use = dict(id_conflict_policy=ActivityIdConflictPolicy.ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING)
    first = await begin(client, "first")
    link = Link(batch_job=Link.BatchJob(job_id="job"))
    attach = OnConflictOptions(attach_request_id=True, attach_links=True)
    second = await begin(client, "second", links=[link], on_conflict_options=attach, **use)
    assert (first.started, second.started, second.run_id) == (True, False, first.run_id)
    assert (await begin(clients[0], "second")).run_id == first.run_id
    request = DescribeActivityExecutionRequest(namespace=client.namespace, activity_id=name)
    assert list((await clients[2].workflow_service.describe_activity_execution(request)).info.links) == [link]
    refusals = {
        "ALREADY_EXISTS activity execution already started": begin(client, "third"),
        "INVALID_ARGUMENT attaching request ID is required for attaching completion callbacks": begin(
            client, "third", on_conflict_options=OnConflictOptions(attach_completion_callbacks=True), **use
        ),
        "INVALID_ARGUMENT invalid url: url does not match any configured callback address: http://localhost/done": begin(
            client, "third", completion_callbacks=[Callback(nexus=Callback.Nexus(url="http://localhost/done"))]
        ),
    }
    for words, call in refusals.items():
        with pytest.raises(RPCError) as refused:
            await call
        assert f"{refused.value.status.name} {refused.value.message}" == words
    await client.get_activity_handle(name).terminate()


async def test_listings_tell_activities_from_workflows(client, worker, name):
    handles = [await start(client, activities.greet, str(n), name=name, suffix=f"-{n}") for n in range(3)]
    await asyncio.gather(*[handle.result() for handle in handles])
    waiting = await start(client, activities.greet, "later", name=name, suffix="-later", start_delay=timedelta(hours=1))
    query = f"TaskQueue = '{name}'"
    listed = [execution async for execution in client.list_activities(query)]
    assert sorted(e.activity_id for e in listed) == sorted(h.id for h in [*handles, waiting])
    assert [e.activity_id async for e in client.list_activities(f"ActivityId = '{name}-1'")] == [f"{name}-1"]
    assert (await client.count_activities(f"{query} AND ExecutionStatus = 'Completed' AND ActivityType = 'greet'")).count == 3
    groups = (await client.count_activities(f"{query} GROUP BY ExecutionStatus")).groups
    assert {group.group_values[0]: group.count for group in groups} == {"Completed": 3, "Running": 1}
    assert (await client.count_workflows(query)).count == 0
    with pytest.raises(RPCError) as refused:
        await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(
                namespace=client.namespace, execution=WorkflowExecution(workflow_id=f"temporal-sys-activity:{name}-1")
            )
        )
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
    delete = DeleteActivityExecutionRequest(namespace=client.namespace, activity_id=waiting.id)
    await client.workflow_service.delete_activity_execution(delete)
    assert (await client.count_activities(query)).count == 3
    with pytest.raises(RPCError) as gone:
        await waiting.describe()
    assert gone.value.status == RPCStatusCode.NOT_FOUND


async def test_operators(client, worker_client, name):
    handle = await start(client, activities.greet, "World", name=name)
    await handle.pause(reason="wait")
    async with make_worker(worker_client, name):
        request = DescribeActivityExecutionRequest(namespace=client.namespace, activity_id=handle.id)
        described = await client.workflow_service.describe_activity_execution(request)
        assert described.info.run_state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED
        await handle.unpause()
        assert await handle.result() == "Hello, World!"


async def test_nodes_may_die(client, clients, name):
    """Node 1 dies by kill -9 with activities in all states, and comes back; each of them has its result."""
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=50))
    handles = [await start(client, activities.fail_until, 2, name=name, suffix=f"-{n}", retry_policy=policy) for n in range(10)]
    async with make_worker(clients[2], name):
        results = asyncio.gather(*[handle.result() for handle in handles])
        await asyncio.to_thread(cluster, "kill", "1")
        try:
            handles = [await start(client, activities.greet, str(n), name=name, suffix=f"-late-{n}") for n in range(10)]
            assert await asyncio.gather(*[handle.result() for handle in handles]) == [f"Hello, {n}!" for n in range(10)]
            # An attempt that was recorded but never reached a worker has timed out.
            assert all(attempt >= 2 for attempt in await results)
        finally:
            await asyncio.to_thread(cluster, "start", "1")


async def describe_queue(client, name):
    return await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=name),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_stats=True,
            report_config=True,
        )
    )


def config(client, name, **changes):
    return client.workflow_service.update_task_queue_config(
        UpdateTaskQueueConfigRequest(
            namespace=client.namespace,
            identity="operator",
            task_queue=name,
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            **changes,
        )
    )


async def test_a_rate_that_operators_set(client, clients, name):
    update = UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=RateLimit(requests_per_second=0), reason="stop")
    answer = await config(client, name, update_queue_rate_limit=update)
    assert answer.config.queue_rate_limit.metadata.update_identity == "operator"
    handle = await start(client, activities.greet, "World", name=name)
    async with make_worker(clients[2], name):

        async def held_back():
            described = await describe_queue(clients[0], name)
            return described.stats.rate_limiting_active and described.stats.approximate_backlog_count == 1

        await until(held_back)
        described = await describe_queue(clients[0], name)
        assert described.config.queue_rate_limit.metadata.reason == "stop"
        assert described.effective_rate_limit.requests_per_second == 0
        assert (await handle.describe()).last_started_time is None
        await config(client, name, update_queue_rate_limit=UpdateTaskQueueConfigRequest.RateLimitUpdate())
        assert await handle.result() == "Hello, World!"


async def test_priorities_are_strict_and_keys_are_fair(client, clients, name):
    """All wait before the worker comes, which takes one at a time."""
    await config(client, name, set_fairness_weight_overrides={"heavy": 3})
    for n in range(40):
        await start(client, activities.greet, "many", name=name, suffix=f"-many-{n}", priority=Priority(fairness_key="heavy"))
    for n in range(12):
        await start(client, activities.greet, "few", name=name, suffix=f"-few-{n}", priority=Priority(fairness_key="light"))
    await start(client, activities.greet, "last", name=name, suffix="-last", priority=Priority(priority_key=5))
    await start(client, activities.greet, "first", name=name, suffix="-first", priority=Priority(priority_key=1))

    async def all_wait():
        by_priority = (await describe_queue(client, name)).stats_by_priority_key
        return {level: stats.approximate_backlog_count for level, stats in by_priority.items()} == {1: 1, 3: 52, 5: 1}

    await until(all_wait)
    async with make_worker(clients[2], name, max_concurrent_activities=1, max_concurrent_activity_task_polls=1):
        assert await client.get_activity_handle(f"{name}-last").result() == "Hello, last!"
    ended = [(e.close_time, e.activity_id) async for e in client.list_activities(f"TaskQueue = '{name}'")]
    order = [activity_id.removeprefix(name + "-").split("-")[0] for _, activity_id in sorted(ended)]
    assert (order[0], order[-1]) == ("first", "last")
    assert 8 <= order[1:41].count("few") <= 12, "one of four, by weight"
