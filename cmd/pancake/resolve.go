package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/suggest"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// resolveRequest finds the request that a person means: by its id, or by its
// service, which may be written like the service of release, and environment.
// It is Invalid when several requests fit, and NotFound when none does.
func resolveRequest(ctx context.Context, c *client.Client, name, environment string) (client.RequestView, error) {
	service := serviceOf(name)
	if environment != "" {
		id := pancake.RequestID(environment, service)
		view, err := c.Request(ctx, id)
		if pancake.KindOf(err) == pancake.NotFound {
			return view, pancake.Errorf(pancake.NotFound, "there is no request %s: %s was not released to %s. See \"pancake status\"", id, service, environment)
		}
		return view, err
	}
	if name == service { // else it is a path, which no id is
		view, err := c.Request(ctx, name)
		if pancake.KindOf(err) != pancake.NotFound {
			return view, err
		}
	}
	all, err := c.Requests(ctx)
	if err != nil {
		return client.RequestView{}, err
	}
	return pickRequest(all, name, service)
}

// pickRequest picks the only request of a service.
func pickRequest(all []client.RequestView, name, service string) (client.RequestView, error) {
	var fit []client.RequestView
	var ids, known []string
	for _, v := range all {
		known = append(known, v.Request.ID, v.Request.Service)
		if v.Request.Service == service {
			fit = append(fit, v)
			ids = append(ids, v.Request.ID)
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		hint := "See \"pancake status\""
		if near, ok := suggest.Nearest(name, known); ok {
			hint = "Did you mean " + near + "?"
		}
		return client.RequestView{}, pancake.Errorf(pancake.NotFound, "there is no request or service %q. %s", name, hint)
	}
	slices.Sort(ids)
	return client.RequestView{}, pancake.Errorf(pancake.Invalid, "%s runs in several environments: choose one with -e, or name one of %s", service, strings.Join(ids, ", "))
}

// serviceOf takes the service from what may be the path of its file.
func serviceOf(name string) string {
	base := filepath.Base(name)
	if ext := filepath.Ext(base); slices.Contains(specExtensions, ext) {
		base = strings.TrimSuffix(base, ext)
	}
	return base
}
