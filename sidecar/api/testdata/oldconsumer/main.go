// This program was written for NinesStack Sidecar: it knows the JSON of state.json
// and of watch as its documentation has it, and nothing of Pancake. It prints what
// it reads of a service, once from the state and then from each document of the two
// watches until the service is draining.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

type Port struct {
	Type        string
	Port        int64
	ServicePort int64
	IP          string
}

type Service struct {
	ID        string
	Name      string
	Image     string
	Created   time.Time
	Hostname  string
	Ports     []Port
	Updated   time.Time
	ProxyMode string
	Status    int
}

type Server struct {
	Name        string
	Services    map[string]*Service
	LastUpdated time.Time
	LastChanged time.Time
}

type ServicesState struct {
	Servers     map[string]*Server
	LastChanged time.Time
	ClusterName string
	Hostname    string
}

const draining = 4

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(url, name string) error {
	resp, err := http.Get(url + "/api/state.json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var state ServicesState
	if err := json.NewDecoder(resp.Body).Decode(&state); err != nil {
		return err
	}
	fmt.Printf("%s of %s, changed %s\n", state.Hostname, state.ClusterName, state.LastChanged.Format(time.RFC3339Nano))
	svc := find(&state, name)
	if svc == nil {
		return fmt.Errorf("no service %s in %+v", name, state)
	}
	fmt.Printf("%+v\n", *svc)

	// Both watches are open before anything changes.
	byService, err := watch(url + "/api/watch")
	if err != nil {
		return err
	}
	whole, err := watch(url + "/watch?by_service=false")
	if err != nil {
		return err
	}
	for status := -1; status != draining; {
		var doc map[string][]*Service
		if err := byService.Decode(&doc); err != nil {
			return err
		}
		if len(doc[name]) > 0 && doc[name][0].Status != status {
			status = doc[name][0].Status
			fmt.Println("by service:", status)
		}
	}
	for status := -1; status != draining; {
		var doc ServicesState
		if err := whole.Decode(&doc); err != nil {
			return err
		}
		if svc := find(&doc, name); svc != nil && svc.Status != status {
			status = svc.Status
			fmt.Println("whole:", status)
		}
	}
	return nil
}

func watch(url string) (*json.Decoder, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(resp.Body)
	return dec, nil
}

func find(s *ServicesState, name string) *Service {
	for _, server := range s.Servers {
		for _, svc := range server.Services {
			if svc.Name == name {
				return svc
			}
		}
	}
	return nil
}
