package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
)

// decode reads one configuration. It is strict: a field that this Traefik does
// not know could be what protects a route. Defaults are not set here, since
// the sidecar writes them out.
func decode(line []byte) (*dynamic.Configuration, error) {
	conf := &dynamic.Configuration{}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(conf); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the configuration")
	}
	if conf.HTTP == nil || conf.HTTP.Routers == nil {
		return nil, errors.New("it has no http.routers, not even {}")
	}
	return conf, noNulls(conf)
}

// noNulls refuses null in place of an element, on which Traefik panics.
func noNulls(c *dynamic.Configuration) error {
	errs := []error{
		noNull("http.routers", c.HTTP.Routers),
		noNull("http.services", c.HTTP.Services),
		noNull("http.middlewares", c.HTTP.Middlewares),
		noNull("http.models", c.HTTP.Models),
		noNull("http.serversTransports", c.HTTP.ServersTransports),
	}
	if c.TCP != nil {
		errs = append(errs,
			noNull("tcp.routers", c.TCP.Routers),
			noNull("tcp.services", c.TCP.Services),
			noNull("tcp.middlewares", c.TCP.Middlewares),
			noNull("tcp.serversTransports", c.TCP.ServersTransports))
	}
	if c.UDP != nil {
		errs = append(errs, noNull("udp.routers", c.UDP.Routers), noNull("udp.services", c.UDP.Services))
	}
	if c.TLS != nil {
		for _, certificate := range c.TLS.Certificates {
			if certificate == nil {
				errs = append(errs, errors.New("tls.certificates holds null"))
			}
		}
	}
	return errors.Join(errs...)
}

func noNull[T any](what string, elements map[string]*T) error {
	for name, e := range elements {
		if e == nil {
			return fmt.Errorf("%s.%s is null", what, name)
		}
	}
	return nil
}
