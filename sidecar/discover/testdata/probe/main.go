// Probe is a container whose health changes with each SIGUSR1. With the argument
// "check" it is its own health check.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// bad is there while the container is not well.
const bad = "/bad"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		if _, err := os.Stat(bad); err == nil {
			fmt.Println("the disk is full")
			os.Exit(1)
		}
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	for range signals {
		if os.Remove(bad) != nil {
			if err := os.WriteFile(bad, nil, 0o600); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}
