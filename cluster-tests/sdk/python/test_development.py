"""The development server, started as SDKs start theirs."""

import asyncio
import os
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from conftest import make_worker
from test_updates import completed_tasks, reset
from workflows import Account


@activity.defn
async def give_back(text: str) -> str:
    return text


@workflow.defn
class TwoAtOnce:
    @workflow.run
    async def run(self, length: int) -> int:
        texts = [f"{number}" * length for number in range(2)]
        calls = (
            workflow.execute_activity(give_back, text, start_to_close_timeout=timedelta(seconds=20)) for text in texts
        )
        return sum(len(text) for text in await asyncio.gather(*calls))


async def start_server():
    return await WorkflowEnvironment.start_local(dev_server_existing_path=os.environ["BRISTLECONE_BIN"])


async def test_the_largest_requests_pass(name):
    # Close to what one blob may have (2 MiB) and what one request may have (4 MiB).
    length = 1_900_000
    async with await start_server() as env:
        async with Worker(env.client, task_queue=name, workflows=[TwoAtOnce], activities=[give_back]):
            total = await env.client.execute_workflow(TwoAtOnce.run, length, id=name, task_queue=name)
    assert total == 2 * length


async def test_a_history_too_large_to_be_copied(name):
    async with await start_server() as env, make_worker(env.client, name):
        handle = await env.client.start_workflow(Account.run, id=name, task_queue=name)
        for _ in range(9):
            await handle.signal(Account.note, "x" * 1_900_000)
            # Each in a workflow task of its own.
            assert await handle.query(Account.balance) == 0
        with pytest.raises(RPCError) as refused:
            await reset(env.client, handle, (await completed_tasks(handle))[-1])
        assert refused.value.status == RPCStatusCode.FAILED_PRECONDITION
        assert "too large" in refused.value.message
        # It goes on as if nothing had been asked.
        assert await handle.execute_update(Account.deposit, 3) == 3
