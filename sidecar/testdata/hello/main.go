// Hello is the service that tests run in containers. It answers every request,
// after DELAY; with LISTEN=no it only sleeps.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	delay, _ := time.ParseDuration(os.Getenv("DELAY")) // none without one
	time.Sleep(delay)
	if os.Getenv("LISTEN") == "no" {
		time.Sleep(24 * time.Hour)
	}
	log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})))
}
