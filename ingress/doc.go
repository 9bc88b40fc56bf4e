// Pancake-ingress is Traefik with a provider that listens to Pancake's sidecar.
//
// It takes Traefik's own static configuration: a file (--configFile), flags or
// TRAEFIK_ variables, the first of these that is used. Traefik's default files
// (/etc/traefik/traefik.yml and so on) are read only when there are no flags at
// all, so that a file of another Traefik on the host changes nothing. On top of
// Traefik's options there are:
//
//	--sidecar.url=URL      sidecar to listen to; default http://127.0.0.1:7777
//	--sidecar.cache=FILE   keep the last good routes in FILE and start with
//	                       them when the sidecar does not answer; default none
//
// In a file these are sidecar.url and sidecar.cache. "pancake-ingress version"
// says which Traefik is inside, "pancake-ingress healthcheck" asks a running one.
//
// What else differs from a stock Traefik: it never phones home (version check
// and usage statistics are off and cannot be turned on), and its default
// certificate is ECDSA and made once, not RSA and made with each change of routes.
package main

//go:generate go run ./internal/typegen -o ../sidecar/traefik/types_gen.go
