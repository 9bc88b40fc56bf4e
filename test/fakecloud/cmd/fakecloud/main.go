// Command fakecloud runs one of the servers that stand in for clouds, prints where
// it serves as a line of JSON, and ends with its standard input.
//
//	fakecloud cloudflare|route53 [-http ADDR] [-dns ADDR]
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
	"github.com/pancake-stack/pancake/test/fakecloud/cloudflare"
	"github.com/pancake-stack/pancake/test/fakecloud/route53"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fakecloud:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("say which cloud: cloudflare or route53")
	}
	switch args[0] {
	case "cloudflare":
		f := cloudflare.New()
		return cloud.Main(ctx, args[1:], in, out, f, f.Answer)
	case "route53":
		f := route53.New()
		return cloud.Main(ctx, args[1:], in, out, f, f.Answer)
	}
	return fmt.Errorf("there is no cloud %q: say cloudflare or route53", args[0])
}
