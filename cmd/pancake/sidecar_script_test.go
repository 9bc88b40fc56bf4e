package main

import (
	"context"
	"net/http"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptAnswers runs "answers URL": it waits until a GET of that is answered with 2xx.
func scriptAnswers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: answers URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts.Check(answers(http.DefaultClient, args[0])(ctx))
}
