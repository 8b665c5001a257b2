"""The development server, started as SDKs start theirs."""

import asyncio
import os
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker


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


async def test_the_largest_requests_pass(name):
    # Close to what one blob may have (2 MiB) and what one request may have (4 MiB).
    length = 1_900_000
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=os.environ["BRISTLECONE_BIN"]) as env:
        async with Worker(env.client, task_queue=name, workflows=[TwoAtOnce], activities=[give_back]):
            total = await env.client.execute_workflow(TwoAtOnce.run, length, id=name, task_queue=name)
    assert total == 2 * length
