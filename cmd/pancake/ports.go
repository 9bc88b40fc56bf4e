package main

import (
	"context"
	"errors"
	"net"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar"
)

// portSettings say by which setting the address of each port of a Sidecar is chosen.
type portSettings map[sidecar.Port]string

// listen opens a port of a Sidecar before anything is started.
func (s portSettings) listen(ctx context.Context, port sidecar.Port, addr string) (net.Listener, error) {
	ln, err := serve.Listen(ctx, addr)
	if err != nil {
		return nil, s.explain(&sidecar.PortError{Port: port, Err: err})
	}
	return ln, nil
}

// explain names the setting behind a port that cannot be listened on. Other errors stay
// as they are.
func (s portSettings) explain(err error) error {
	of, ok := errors.AsType[*sidecar.PortError](err)
	if !ok || s[of.Port] == "" {
		return err
	}
	return pancake.Errorf(pancake.KindOf(err), "%w\nThe address is that of %s.", err, s[of.Port])
}
