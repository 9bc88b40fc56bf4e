package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// A program that a Sidecar notifies, because its container has the label
// SidecarListener or its URL is among the Sidecar's listeners.
func ExampleReceiver() {
	// The Sidecar of this host, http://127.0.0.1:7777, in reality.
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"Servers":{"node1":{"Services":{"a1b2":{"Name":"web","Status":0}}}}}`)
	}))
	defer sidecar.Close()

	receiver := client.NewReceiver(10, func(s *client.State) {
		for host, server := range s.Servers {
			for id, svc := range server.Services {
				fmt.Println(svc.Name, id, "on", host, "is", svc.Status)
			}
		}
	})
	receiver.Subscribe("web")
	if err := receiver.FetchInitialState(context.Background(), sidecar.URL+"/api/state.json"); err != nil {
		fmt.Println(err)
	}

	// In reality: run this until the program ends, …
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = receiver.Run(ctx)
	// … and have the Sidecar post to it.
	http.Handle("POST /sidecar/update", receiver.UpdateHandler())
	// Output: web a1b2 on node1 is Alive
}

// Following the changes of all services, and going on where one was when the
// Sidecar has been restarted.
func ExampleClient_Events() {
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "id: 7\nevent: change\n", `data: {"Service":{"Name":"web","Status":4},"PreviousStatus":0}`, "\n\n")
	}))
	defer sidecar.Close()

	ctx, cancel := context.WithCancel(context.Background())
	c := &client.Client{URL: sidecar.URL}
	err := c.Events(ctx, "", func(e client.Event) error {
		if e.Reset != nil {
			_, err := c.State(ctx) // some changes are unknown: begin with the whole
			return err
		}
		fmt.Println(e.Change.Service.Name, "was", e.Change.PreviousStatus, "and is", e.Change.Service.Status)
		cancel()
		return nil
	})
	fmt.Println(err)
	// Output:
	// web was Alive and is Draining
	// context canceled
}

// A process that is no container announces itself.
func ExampleClient_Register() {
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"ID":"db-1","Name":"db","Hostname":"node1"}`)
	}))
	defer sidecar.Close()

	ctx, c := context.Background(), &client.Client{URL: sidecar.URL}
	svc, err := c.Register(ctx, "db-1", client.Registration{
		Service: pancake.Service{Name: "db", ProxyMode: "tcp", Ports: []pancake.ServicePort{{Type: "tcp", Port: 5432, ServicePort: 5432}}},
		TTL:     "30s",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(svc.Name, "is announced on", svc.Hostname)
	// Every 10 s or so, as long as all is well:
	if err := c.Beat(ctx, svc.ID, pancake.Alive, ""); err != nil {
		fmt.Println(err)
	}
	// Output: db is announced on node1
}
