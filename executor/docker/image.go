package docker

import (
	"context"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
)

// Pull gets an image from its registry, present or not. The error names the
// image and says what the registry said. It is Invalid when the name can never
// work, NotFound when the registry does not have the image or does not show it
// to us, and Unavailable when the engine does not answer.
func (e *Engine) Pull(ctx context.Context, image string) error {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "image %q: %w", image, err)
	}
	auth, err := credentials(e.credentials, reference.Domain(ref))
	if err != nil {
		return pancake.Errorf(pancake.Failed, "pull image %s: logins in %s: %w", image, e.credentials, err)
	}
	doing := "pull image " + image
	stream, err := e.api.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return e.failed(refused(err), doing)
	}
	defer stream.Close()
	for m, err := range stream.JSONMessages(ctx) {
		if err != nil {
			return e.failed(err, doing)
		}
		if m.Error != nil {
			return e.failed(refused(m.Error), doing)
		}
	}
	return nil
}

// refused recognises a registry's no. The engine hands it on as text, with
// statuses that differ from version to version.
func refused(err error) error {
	for _, words := range []string{"manifest unknown", "not found", "denied", "does not exist", "unauthorized"} {
		if strings.Contains(strings.ToLower(err.Error()), words) {
			return refusal{err}
		}
	}
	return err
}

// refusal makes an error one that errdefs.IsNotFound knows.
type refusal struct{ error }

func (refusal) NotFound()       {}
func (r refusal) Unwrap() error { return r.error }
