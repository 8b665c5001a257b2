"""Updates, alone and with the start of their workflow, and resets."""

import asyncio
import uuid

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

import workflows
from conftest import cluster, make_worker, until
from workflows import Account, Hops

UPDATE_EVENTS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
}


async def event_types(handle):
    return [event.event_type async for event in handle.fetch_history_events()]


async def test_an_update_is_answered_and_stays_known(client, clients, worker, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    assert await handle.execute_update(Account.deposit, 5, id="first") == 5
    assert await handle.execute_update(Account.deposit, 2) == 7
    # Under the same id it is the same update, on every node.
    for other in clients:
        assert await other.get_workflow_handle(name).execute_update(Account.deposit, 5, id="first") == 5
        assert await other.get_workflow_handle(name).get_update_handle("first").result() == 5
    assert await handle.query(Account.balance) == 7
    await handle.signal(Account.close)
    assert await handle.result() == 7
    assert await handle.get_update_handle("first").result() == 5


async def test_a_rejected_update_leaves_no_trace(client, worker, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    assert await handle.execute_update(Account.deposit, 1) == 1
    before = await event_types(handle)
    for _ in range(3):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await handle.execute_update(Account.deposit, -1, id="refused")
        assert refused.value.cause.message == "nothing to deposit"
    assert await event_types(handle) == before
    with pytest.raises(RPCError) as unknown:
        await handle.get_update_handle("refused").result()
    assert unknown.value.status == RPCStatusCode.NOT_FOUND
    assert await handle.execute_update(Account.deposit, 1) == 2


async def test_an_update_before_its_worker(client, worker_client, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    update = asyncio.create_task(handle.execute_update(Account.deposit, 3))
    async with make_worker(worker_client, name):
        assert await update == 3


async def test_stages(client, worker, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    slow = await handle.start_update(Account.settle, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    assert not (await client.get_workflow_handle(name).describe()).status == WorkflowExecutionStatus.COMPLETED
    await handle.signal(Account.close)
    assert await slow.result() == 0
    assert await handle.result() == 0


async def test_many_updates_at_once(client, worker, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    for _ in range(5):
        await asyncio.gather(*(handle.execute_update(Account.deposit, 1) for _ in range(10)))
    assert await handle.query(Account.balance) == 50


async def test_an_accepted_update_fails_with_its_workflow(client, worker, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    update = await handle.start_update(Account.settle, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    await handle.terminate()
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await update.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "AcceptedUpdateCompletedWorkflow"


async def test_an_update_goes_on_to_the_next_run(client, worker, name):
    handle = await client.start_workflow(Hops.run, 5, id=name, task_queue=name)
    done = await asyncio.gather(*(client.get_workflow_handle(name).execute_update(Hops.hop) for _ in range(5)))
    assert len(done) == 5
    await client.get_workflow_handle(name).terminate()


async def test_update_with_start(client, worker, name):
    def start(policy):
        return WithStartWorkflowOperation(Account.run, id=name, task_queue=name, id_conflict_policy=policy)

    first = start(WorkflowIDConflictPolicy.FAIL)
    assert await client.execute_update_with_start_workflow(Account.deposit, 4, start_workflow_operation=first) == 4
    run_id = (await first.workflow_handle()).first_execution_run_id
    again = start(WorkflowIDConflictPolicy.USE_EXISTING)
    assert await client.execute_update_with_start_workflow(Account.deposit, 4, start_workflow_operation=again) == 8
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.execute_update_with_start_workflow(
            Account.deposit, 4, start_workflow_operation=start(WorkflowIDConflictPolicy.FAIL)
        )
    assert (await client.get_workflow_handle(name).describe()).run_id == run_id
    other = start(WorkflowIDConflictPolicy.TERMINATE_EXISTING)
    assert await client.execute_update_with_start_workflow(Account.deposit, 1, start_workflow_operation=other) == 1
    assert (await client.get_workflow_handle(name).describe()).run_id != run_id


async def test_updates_survive_a_leader(client, name, clients):
    """Updates go on while a node dies by kill -9 and comes back: each is carried out once."""
    async with make_worker(clients[0], name):
        handle = await client.start_workflow(Account.run, id=name, task_queue=name)
        assert await handle.execute_update(Account.deposit, 1) == 1

        async def deposit(number):
            await handle.execute_update(Account.deposit, 1, id=f"deposit-{number}")

        await asyncio.to_thread(cluster, "kill", "3")
        try:
            for number in range(20):
                await deposit(number)
        finally:
            await asyncio.to_thread(cluster, "start", "3")
        assert await handle.query(Account.balance) == 21


async def reset(client, handle, event_id, **options):
    response = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=options.pop("run_id", "")),
            reason="once more",
            workflow_task_finish_event_id=event_id,
            request_id=uuid.uuid4().hex,
            **options,
        )
    )
    return response.run_id


async def test_reset(client, clients, worker, name):
    handle = await client.start_workflow(Account.run, id=name, task_queue=name)
    assert await handle.execute_update(Account.deposit, 5, id="five") == 5
    await handle.signal(Account.note, "kept")
    await until(lambda: has_note(handle))
    run_id = handle.first_execution_run_id
    new_run_id = await reset(client, handle, (await completed_tasks(handle))[0])
    assert new_run_id != run_id
    # What others said is said again; who asks finds the new run.
    assert (await client.get_workflow_handle(name).describe()).run_id == new_run_id
    assert await client.get_workflow_handle(name).execute_update(Account.deposit, 2) == 7
    assert await client.get_workflow_handle(name).get_update_handle("five").result() == 5
    assert await client.get_workflow_handle(name).query(Account.notes) == ["kept"]
    former = await clients[0].get_workflow_handle(name, run_id=run_id).describe()
    assert former.status == WorkflowExecutionStatus.TERMINATED
    assert former.raw_description.workflow_extended_info.reset_run_id == new_run_id
    await client.get_workflow_handle(name).signal(Account.close)
    # The caller of the first run waits for the last.
    assert await client.get_workflow_handle(name).result() == 7


async def completed_tasks(handle):
    return [
        event.event_id
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]


async def has_note(handle):
    return await handle.query(Account.notes) == ["kept"]


async def test_a_closed_workflow_is_reset(client, worker, name):
    handle = await client.start_workflow(workflows.Greeting.run, "World", id=name, task_queue=name)
    assert await handle.result() == "Hello, World!"
    await reset(client, handle, 4, run_id=handle.result_run_id)
    assert await client.get_workflow_handle(name).result() == "Hello, World!"
    with pytest.raises(RPCError) as refused:
        await reset(client, handle, 999)
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
