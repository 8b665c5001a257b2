"""Workflows: timers, signals, queries, children, others, continue-as-new, local activities, ends of every kind."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import CancelledError, TerminatedError, TimeoutError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from conftest import make_worker, until
from workflows import (
    CancelsOther,
    CleansUp,
    CountsDown,
    Fails,
    FailsOnce,
    Greeting,
    Inbox,
    Leaves,
    LocalActivities,
    Parent,
    Sleeper,
    Timers,
)


async def status_of(client, workflow_id):
    return (await client.get_workflow_handle(workflow_id).describe()).status


async def test_timers(client, worker, name):
    took = await client.execute_workflow(Timers.run, id=name, task_queue=name)
    assert 0.6 <= took < 5


async def test_signals_and_queries(client, worker, name):
    handle = await client.start_workflow(Inbox.run, id=name, task_queue=name)
    for item in ("a", "b"):
        await handle.signal(Inbox.put, item)
    # A query reflects every signal that was acknowledged before it.
    assert await handle.query(Inbox.seen) == ["a", "b"]
    with pytest.raises(WorkflowQueryFailedError):
        await handle.query(Inbox.broken)
    await handle.signal(Inbox.put, "done")
    assert await handle.result() == ["a", "b", "done"]
    assert await handle.query(Inbox.seen) == ["a", "b", "done"]


async def test_queries_after_the_worker_was_replaced(client, worker_client, name):
    async with make_worker(worker_client, name):
        handle = await client.start_workflow(Inbox.run, id=name, task_queue=name)
        await handle.signal(Inbox.put, "a")
        assert await handle.query(Inbox.seen) == ["a"]
    async with make_worker(worker_client, name):
        assert await handle.query(Inbox.seen) == ["a"]
        await handle.signal(Inbox.put, "done")
        assert await handle.result() == ["a", "done"]


async def test_a_query_waits_for_a_worker_that_was_there_a_moment_ago(client, worker_client, name):
    # Several queues, so that most of them are brokered by another node than the one that leads the workflow's shard.
    async def ask(queue):
        async with make_worker(worker_client, queue):
            handle = await client.start_workflow(
                Inbox.run, id=queue, task_queue=queue, start_signal="put", start_signal_args=["done"]
            )
            assert await handle.result() == ["done"]
        with pytest.raises(RPCError) as refused:
            await handle.query(Inbox.seen, rpc_timeout=timedelta(milliseconds=1500))
        return refused.value.status

    answers = await asyncio.gather(*(ask(f"{name}-{number}") for number in range(6)))
    assert set(answers) <= {RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED}


async def test_a_worker_without_a_cache(client, worker_client, name):
    async with make_worker(worker_client, name, max_cached_workflows=0):
        handle = await client.start_workflow(Inbox.run, id=name, task_queue=name)
        for item in ("a", "b"):
            await handle.signal(Inbox.put, item)
            assert (await handle.query(Inbox.seen))[-1] == item
        await handle.signal(Inbox.put, "done")
        assert await handle.result() == ["a", "b", "done"]


async def test_signal_with_start(client, worker, name):
    first = await client.start_workflow(Inbox.run, id=name, task_queue=name, start_signal="put", start_signal_args=["a"])
    second = await client.start_workflow(
        Inbox.run, id=name, task_queue=name, start_signal="put", start_signal_args=["done"]
    )
    assert await second.result() == ["a", "done"]
    assert first.result_run_id == second.result_run_id


async def test_children_and_external_workflows(client, worker, name):
    result = await client.execute_workflow(Parent.run, name, id=name, task_queue=name)
    assert result[:4] == ["Hello, child!", ["one", "done"], "CancelledError", "child fails"]
    assert result[4] != "delivered"


async def test_parent_close_policies(client, worker, name):
    await client.execute_workflow(Leaves.run, name, id=name, task_queue=name)
    for policy, expected in [
        ("TERMINATE", WorkflowExecutionStatus.TERMINATED),
        ("REQUEST_CANCEL", WorkflowExecutionStatus.CANCELED),
    ]:
        async def reached():
            return await status_of(client, f"{name}-{policy}") == expected

        await until(reached)
    assert await status_of(client, f"{name}-ABANDON") == WorkflowExecutionStatus.RUNNING
    await client.get_workflow_handle(f"{name}-ABANDON").terminate("done")


async def test_cancelling_another_workflow(client, worker, name):
    other = await client.start_workflow(Sleeper.run, id=f"{name}-other", task_queue=name)
    assert await client.execute_workflow(CancelsOther.run, f"{name}-other", id=name, task_queue=name) == "asked"
    with pytest.raises(WorkflowFailureError) as failure:
        await other.result()
    assert isinstance(failure.value.cause, CancelledError)


async def test_continue_as_new(client, worker, name):
    handle = await client.start_workflow(CountsDown.run, 3, id=name, task_queue=name)
    previous = await handle.result()
    assert previous and previous != handle.first_execution_run_id


async def test_local_activities_and_markers(client, worker, name):
    result = await client.execute_workflow(LocalActivities.run, id=name, task_queue=name)
    assert result == ["Hello, local!", 3, [f"Hello, {n}!" for n in range(5)], "ForGood", True]


async def test_cancel_with_cleanup(client, worker, name):
    handle = await client.start_workflow(CleansUp.run, id=name, task_queue=name)
    await handle.cancel()
    assert await handle.result() == "Hello, cleanup!"


async def test_terminate(client, worker, name):
    handle = await client.start_workflow(Sleeper.run, id=name, task_queue=name)
    await handle.terminate("enough", reason="tested")
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, TerminatedError)
    assert await status_of(client, name) == WorkflowExecutionStatus.TERMINATED
    with pytest.raises(RPCError) as refused:
        await handle.signal("put", "too late")
    assert refused.value.status == RPCStatusCode.NOT_FOUND


async def test_failure_retry_and_run_timeout(client, worker, name):
    with pytest.raises(WorkflowFailureError) as failure:
        await client.execute_workflow(Fails.run, "it", id=f"{name}-fails", task_queue=name)
    assert failure.value.cause.message == "it fails"
    retry = RetryPolicy(initial_interval=timedelta(milliseconds=100))
    retried = client.execute_workflow(FailsOnce.run, id=f"{name}-retry", task_queue=name, retry_policy=retry)
    assert await retried == 2
    with pytest.raises(WorkflowFailureError) as failure:
        await client.execute_workflow(
            Sleeper.run, id=f"{name}-late", task_queue=name, run_timeout=timedelta(seconds=1)
        )
    assert isinstance(failure.value.cause, TimeoutError)


async def test_start_delay(client, worker, name):
    handle = await client.start_workflow(
        Greeting.run, "later", id=name, task_queue=name, start_delay=timedelta(seconds=1)
    )
    assert await handle.result() == "Hello, later!"
    description = await handle.describe()
    assert description.execution_time - description.start_time >= timedelta(seconds=1)


async def test_id_policies(client, worker, name):
    running = await client.start_workflow(Sleeper.run, id=name, task_queue=name)
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(Sleeper.run, id=name, task_queue=name)
    same = await client.start_workflow(
        Sleeper.run, id=name, task_queue=name, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
    )
    assert same.result_run_id == running.result_run_id
    replaced = await client.start_workflow(
        Sleeper.run, id=name, task_queue=name, id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING
    )
    assert replaced.result_run_id != running.result_run_id
    await replaced.terminate()
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(
            Sleeper.run, id=name, task_queue=name, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE
        )


async def test_describe_list_and_count(client, worker, name):
    for n in range(3):
        await client.execute_workflow(Greeting.run, str(n), id=f"{name}-{n}", task_queue=name, memo={"n": n})
    running = await client.start_workflow(Sleeper.run, id=f"{name}-open", task_queue=name)
    description = await client.get_workflow_handle(f"{name}-1").describe()
    assert description.workflow_type == "Greeting"
    assert description.status == WorkflowExecutionStatus.COMPLETED
    assert await description.memo() == {"n": 1}

    async def ids(query):
        return {execution.id async for execution in client.list_workflows(query) if execution.id.startswith(name)}

    # A listing shows what was acknowledged before it.
    assert await ids("WorkflowType = 'Sleeper' AND ExecutionStatus = 'Running'") == {f"{name}-open"}
    assert await ids(f"WorkflowId = '{name}-2'") == {f"{name}-2"}
    assert await ids("WorkflowType = 'Greeting' AND ExecutionStatus = 'Completed'") == {f"{name}-{n}" for n in range(3)}
    await running.terminate()
    assert await ids("WorkflowType = 'Sleeper' AND ExecutionStatus = 'Running'") == set()


async def test_a_task_that_fails_is_tried_again(client, worker_client, name):
    """A workflow of a type that the first worker does not have waits for one that does."""
    from temporalio.worker import Worker

    handle = await client.start_workflow("Greeting", "World", id=name, task_queue=name, task_timeout=timedelta(seconds=2))
    async with Worker(worker_client, task_queue=name, workflows=[Sleeper]):
        async def was_tried():
            history = await handle.fetch_history()
            return any(event.HasField("workflow_task_failed_event_attributes") for event in history.events)

        await until(was_tried)
    async with make_worker(worker_client, name):
        assert await handle.result() == "Hello, World!"


async def test_bad_requests_are_refused(client, name):
    async def code(call):
        with pytest.raises(RPCError) as refused:
            await call
        return refused.value.status

    long_id = "x" * 2000
    assert await code(client.start_workflow("W", id=long_id, task_queue=name)) == RPCStatusCode.INVALID_ARGUMENT
    assert await code(client.get_workflow_handle(f"{name}-none").describe()) == RPCStatusCode.NOT_FOUND
    assert await code(client.get_workflow_handle(f"{name}-none").signal("s")) == RPCStatusCode.NOT_FOUND
    token = client.get_async_activity_handle(task_token=b"nonsense")
    assert await code(token.complete()) == RPCStatusCode.INVALID_ARGUMENT
    too_much = client.start_workflow("W", "x" * (3 << 20), id=name, task_queue=name)
    assert await code(too_much) == RPCStatusCode.INVALID_ARGUMENT

    async def lists():
        async for _ in client.list_workflows("Nonsense ==== 3"):
            pass

    assert await code(lists()) == RPCStatusCode.INVALID_ARGUMENT
