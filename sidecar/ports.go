package sidecar

import (
	"errors"
	"net"
	"syscall"

	"github.com/pancake-stack/pancake"
)

// Port names one of the addresses on which a Sidecar listens.
type Port string

// The ports: HTTPAddr, BindAddr with BindPort, EnvoyAddr and DNSAddr of Config.
const (
	PortHTTP   Port = "http"
	PortGossip Port = "gossip"
	PortEnvoy  Port = "envoy"
	PortDNS    Port = "dns"
)

// PortError says which port cannot be listened on. Its kind is Conflict where another
// program has it.
type PortError struct {
	Port Port
	Err  error
}

// Error is error's.
func (e *PortError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PortError) Unwrap() error { return e.Err }

// ofPort makes a failure to listen a PortError, and leaves any other as it is.
func ofPort(port Port, err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "listen" {
		return err
	}
	switch {
	case port == PortGossip && errors.Is(err, syscall.EADDRNOTAVAIL):
		err = pancake.Errorf(pancake.Invalid, "gossip: cannot listen on %s: it is no address of this machine; choose one that is: %w", op.Addr, op)
	case port == PortGossip && errors.Is(err, syscall.EADDRINUSE):
		err = pancake.Errorf(pancake.Conflict, "gossip: cannot listen on %s, TCP and UDP: another program, such as another Sidecar or agent, already does; stop it or choose another address: %w", op.Addr, op)
	}
	return &PortError{port, err}
}
