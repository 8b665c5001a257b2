// A first workflow of the Go SDK: one activity, a worker and a client, on the cluster at BRISTLECONE_ADDRESS.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func Greet(_ context.Context, name string) (string, error) {
	return "Hello, " + name + "!", nil
}

func Greeting(ctx workflow.Context, name string) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var greeting string
	err := workflow.ExecuteActivity(ctx, Greet, name).Get(ctx, &greeting)
	return greeting, err
}

func run() error {
	address := os.Getenv("BRISTLECONE_ADDRESS")
	if address == "" {
		address = client.DefaultHostPort
	}
	connection, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		return err
	}
	defer connection.Close()

	const queue = "hello-go"
	greeter := worker.New(connection, queue, worker.Options{})
	greeter.RegisterWorkflow(Greeting)
	greeter.RegisterActivity(Greet)
	if err := greeter.Start(); err != nil {
		return err
	}
	defer greeter.Stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	execution, err := connection.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, Greeting, "Go")
	if err != nil {
		return err
	}
	var greeting string
	if err := execution.Get(ctx, &greeting); err != nil {
		return err
	}
	if greeting != "Hello, Go!" {
		return fmt.Errorf("the workflow returned %q", greeting)
	}
	fmt.Println(greeting)
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
