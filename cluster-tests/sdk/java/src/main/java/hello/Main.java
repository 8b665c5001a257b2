package hello;

import io.temporal.activity.ActivityInterface;
import io.temporal.activity.ActivityOptions;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowOptions;
import io.temporal.serviceclient.WorkflowServiceStubs;
import io.temporal.serviceclient.WorkflowServiceStubsOptions;
import io.temporal.worker.Worker;
import io.temporal.worker.WorkerFactory;
import io.temporal.workflow.Workflow;
import io.temporal.workflow.WorkflowInterface;
import io.temporal.workflow.WorkflowMethod;
import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** A first workflow of the Java SDK: one activity, a worker and a client, on the cluster at BRISTLECONE_ADDRESS. */
public final class Main {
  private static final String QUEUE = "hello-java";

  @ActivityInterface
  public interface Greeter {
    String greet(String name);
  }

  public static final class GreeterImpl implements Greeter {
    @Override
    public String greet(String name) {
      return "Hello, " + name + "!";
    }
  }

  @WorkflowInterface
  public interface Greeting {
    @WorkflowMethod
    String run(String name);
  }

  public static final class GreetingImpl implements Greeting {
    private final Greeter greeter =
        Workflow.newActivityStub(
            Greeter.class, ActivityOptions.newBuilder().setStartToCloseTimeout(Duration.ofMinutes(1)).build());

    @Override
    public String run(String name) {
      return greeter.greet(name);
    }
  }

  public static void main(String[] arguments) {
    String address = System.getenv().getOrDefault("BRISTLECONE_ADDRESS", "127.0.0.1:7233");
    WorkflowServiceStubs service =
        WorkflowServiceStubs.newServiceStubs(WorkflowServiceStubsOptions.newBuilder().setTarget(address).build());
    WorkflowClient client = WorkflowClient.newInstance(service);
    WorkerFactory factory = WorkerFactory.newInstance(client);
    Worker worker = factory.newWorker(QUEUE);
    worker.registerWorkflowImplementationTypes(GreetingImpl.class);
    worker.registerActivitiesImplementations(new GreeterImpl());
    factory.start();
    try {
      WorkflowOptions options =
          WorkflowOptions.newBuilder().setTaskQueue(QUEUE).setWorkflowRunTimeout(Duration.ofMinutes(1)).build();
      String result = client.newWorkflowStub(Greeting.class, options).run("Java");
      if (!result.equals("Hello, Java!")) {
        throw new IllegalStateException("the workflow returned " + result);
      }
      System.out.println(result);
    } finally {
      factory.shutdown();
      factory.awaitTermination(10, TimeUnit.SECONDS);
      service.shutdown();
    }
  }

  private Main() {}
}
