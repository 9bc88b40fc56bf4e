// Package pancake holds the words that every part of Pancake shares: what a
// user asks for (Request, Deploy), what runs (Task), where it runs (Agent,
// Offer, Resources), what is announced (Service) and how things fail (Error).
//
// The package imports the standard library only and does no I/O, so that any
// part, and any program of a user, may import it. Field names follow Mesos and
// Singularity; Service follows Sidecar.
package pancake
