// Command oldsidecar runs one peer of package oldsidecar, to try a bridge by hand:
//
//	go run ./test/oldsidecar/cmd/oldsidecar -name o1 -bind 127.0.0.1 -port 7946 -http 127.0.0.1:7777 -services web,api
//
// Its services last until it ends. The API can drain them, as Sidecar's can.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake/test/oldsidecar"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // main
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	cfg := oldsidecar.Config{Log: slog.New(slog.NewTextHandler(stderr, nil))}
	flags := flag.NewFlagSet("oldsidecar", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.Name, "name", "o1", "host name")
	flags.StringVar(&cfg.Cluster, "cluster", "default", "name of the cluster")
	flags.StringVar(&cfg.BindAddr, "bind", "127.0.0.1", "IP to listen on")
	flags.IntVar(&cfg.BindPort, "port", 7946, "port of the gossip; 0 picks a free one")
	flags.StringVar(&cfg.HTTPAddr, "http", "127.0.0.1:7777", "where the API listens")
	seeds := flags.String("seeds", "", "host:port,… of some peers")
	services := flags.String("services", "", "names of services that run here")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg.Seeds = split(*seeds)
	p, err := oldsidecar.New(cfg)
	if err != nil {
		return err
	}
	for i, name := range split(*services) {
		p.Set(oldsidecar.Service{
			ID: fmt.Sprintf("%012x", i+1), Name: name, Image: name + ":1", Created: time.Now().UTC(), ProxyMode: "http",
			Ports: []oldsidecar.Port{{Type: "tcp", Port: int64(31000 + i), ServicePort: 8080, IP: cfg.BindAddr}},
		})
	}
	if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func split(csv string) []string {
	return strings.FieldsFunc(csv, func(r rune) bool { return r == ',' })
}
