// App is the program of the tests' image. What it does is in its environment:
//
//	LINES  print this many lines before anything else, the first to stderr
//	EXIT   exit with this code
//	HOG    take this many MiB of memory
//	STUBBORN  ignore SIGTERM, and say so when that can be relied on
//	PORT   listen there; default 8080
//
// As /bin/sh it prints its arguments and goes on as above.
package main

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strconv"
	"syscall"
)

func main() {
	if path.Base(os.Args[0]) == "sh" {
		fmt.Printf("sh %q\n", os.Args[1:])
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(os.Getenv(name)) // 0 when not set
		return n
	}
	for i := range number("LINES") {
		out := os.Stdout
		if i == 0 {
			out = os.Stderr
		}
		fmt.Fprintf(out, "line %d\n", i+1)
	}
	if os.Getenv("EXIT") != "" {
		os.Exit(number("EXIT"))
	}
	hog := make([]byte, number("HOG")<<20)
	for i := range hog {
		hog[i] = 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if os.Getenv("STUBBORN") != "" {
		fmt.Println("stubborn")
	}
	go func() {
		for range stop {
			fmt.Println("asked to stop")
			if os.Getenv("STUBBORN") == "" {
				os.Exit(0)
			}
		}
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		for _, v := range os.Environ() {
			fmt.Fprintln(w, v)
		}
	})
	err := http.ListenAndServe(":"+cmp.Or(os.Getenv("PORT"), "8080"), nil)
	fmt.Fprintln(os.Stderr, err, len(hog))
	os.Exit(3)
}
