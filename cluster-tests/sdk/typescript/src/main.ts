// A first workflow of the TypeScript SDK: one activity, a worker and a client, on the cluster at BRISTLECONE_ADDRESS.
import { Client, Connection } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import * as activities from './activities';
import { greeting } from './workflows';

async function run(): Promise<void> {
  const address = process.env.BRISTLECONE_ADDRESS ?? '127.0.0.1:7233';
  const taskQueue = 'hello-typescript';
  const native = await NativeConnection.connect({ address });
  const worker = await Worker.create({
    connection: native,
    taskQueue,
    workflowsPath: require.resolve('./workflows'),
    activities,
  });
  const connection = await Connection.connect({ address });
  const client = new Client({ connection });
  const result = await worker.runUntil(
    client.workflow.execute(greeting, {
      args: ['TypeScript'],
      taskQueue,
      workflowId: `hello-typescript-${process.pid}`,
      workflowRunTimeout: '1 minute',
    }),
  );
  if (result !== 'Hello, TypeScript!') {
    throw new Error(`the workflow returned ${result}`);
  }
  console.log(result);
  await connection.close();
  await native.close();
}

run().catch((error) => {
  console.error(error);
  process.exit(1);
});
