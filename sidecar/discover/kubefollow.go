package discover

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// follower keeps somebody's copy of what the API has at a path.
type follower[T kubeObject] struct {
	api     *kubeAPI
	path    string
	query   url.Values
	poll    time.Duration
	replace func(map[string]T)
	change  func(object T, gone bool)
	log     *slog.Logger
	down    bool // the API does not answer; logged
	polls   bool // changes cannot be waited for; logged
}

// run lists everything, waits for changes from there on, and lists again when that is
// not possible: at once if it has fallen behind, after poll if it may not wait.
func (f *follower[T]) run(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, 10*time.Second
	for {
		start := time.Now()
		listed, err := f.round(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if listed && time.Since(start) > wait.MaxInterval {
			wait.Reset() // it went well for a while
		}
		pause := wait.NextBackOff()
		refused, ok := errors.AsType[*kubeError](err)
		switch {
		case listed && ok && refused.status < 500 && !expired(err):
			if !f.polls {
				f.polls = true
				f.log.WarnContext(ctx, "kubernetes does not let us wait for changes; everything is listed again and again", "path", f.path, "every", f.poll, "err", err)
			}
			pause = f.poll - rand.N(f.poll/10+1)
			wait.Reset()
		case !expired(err) && !f.down: // once: the rest is the same
			f.down = true
			f.log.WarnContext(ctx, "kubernetes does not answer; services stay as they are until it does", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// round lists everything once and follows the changes for as long as that works, which
// ends with an error.
func (f *follower[T]) round(ctx context.Context) (listed bool, err error) {
	all, version, err := f.list(ctx)
	if err != nil {
		return false, err
	}
	if f.down {
		f.down = false
		f.log.InfoContext(ctx, "kubernetes answers again", "path", f.path)
	}
	f.replace(all)
	return true, f.watch(ctx, version)
}

// list asks for everything, page by page. It starts anew once if the list grows too old meanwhile.
func (f *follower[T]) list(ctx context.Context) (map[string]T, string, error) {
	all, version, err := f.pages(ctx)
	if expired(err) {
		all, version, err = f.pages(ctx)
	}
	if err != nil {
		return nil, "", fmt.Errorf("list %s: %w", f.path, err)
	}
	return all, version, nil
}

// kubeList is one page.
type kubeList[T kubeObject] struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	} `json:"metadata"`
	Items []T `json:"items"`
}

func (f *follower[T]) pages(ctx context.Context) (map[string]T, string, error) {
	all, query := map[string]T{}, url.Values{"limit": {strconv.Itoa(kubePage)}}
	maps.Copy(query, f.query)
	for {
		page, err := f.page(ctx, query)
		if err != nil {
			return nil, "", err
		}
		for _, object := range page.Items {
			all[object.meta().UID] = object
		}
		if len(all) > maxKubeObjects {
			return nil, "", fmt.Errorf("more than %d objects", maxKubeObjects)
		}
		next := page.Metadata.Continue
		if next == "" || next == query.Get("continue") {
			return all, page.Metadata.ResourceVersion, nil
		}
		query.Set("continue", next)
	}
}

func (f *follower[T]) page(ctx context.Context, query url.Values) (kubeList[T], error) {
	var page kubeList[T]
	ctx, cancel := context.WithTimeout(ctx, f.api.timeout)
	defer cancel()
	resp, err := f.api.get(ctx, f.path, query)
	if err != nil {
		return page, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKubePage+1))
	if err != nil {
		return page, err
	}
	if len(text) > maxKubePage {
		return page, fmt.Errorf("a page of more than %d bytes", maxKubePage)
	}
	err = json.Unmarshal(text, &page)
	return page, err
}

// watch applies changes from a version on, for as long as that works. The end of one
// wait is no failure: the next goes on where it ended.
func (f *follower[T]) watch(ctx context.Context, version string) error {
	for {
		began, before := time.Now(), version
		next, err := f.watchOnce(ctx, version)
		if err != nil {
			return fmt.Errorf("watch %s: %w", f.path, err)
		}
		if version = next; version == before && time.Since(began) < time.Second {
			return fmt.Errorf("watch %s: it ends as soon as it begins", f.path)
		}
	}
}

// watchOnce waits for changes until the API ends the stream, and returns the version
// that it has come to.
func (f *follower[T]) watchOnce(ctx context.Context, version string) (string, error) {
	lasts := kubeWatch + rand.N(kubeWatch/4)
	ctx, cancel := context.WithTimeout(ctx, lasts+kubeSlack)
	defer cancel()
	query := url.Values{
		"watch": {"true"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {version},
		"timeoutSeconds": {strconv.Itoa(int(lasts.Seconds()))},
	}
	maps.Copy(query, f.query)
	resp, err := f.api.get(ctx, f.path, query)
	if err != nil {
		return version, err
	}
	defer resp.Body.Close()
	lines := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		line, err := readLine(lines, maxKubeEvent)
		if errors.Is(err, io.EOF) {
			return version, nil
		}
		if err != nil {
			return version, err
		}
		if version, err = f.event(line, version); err != nil {
			return version, err
		}
	}
}

// event applies one event.
func (f *follower[T]) event(line []byte, version string) (string, error) {
	var event struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return version, fmt.Errorf("an event that is no JSON: %w", err)
	}
	if event.Type == "ERROR" {
		var status struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(event.Object, &status); err != nil {
			return version, fmt.Errorf("an error that is no JSON: %w", err)
		}
		return version, &kubeError{cmp.Or(status.Code, http.StatusInternalServerError), note(status.Message)}
	}
	var object T
	if err := json.Unmarshal(event.Object, &object); err != nil {
		return version, fmt.Errorf("an object that is not what it should be: %w", err)
	}
	switch event.Type {
	case "ADDED", "MODIFIED":
		f.change(object, false)
	case "DELETED":
		f.change(object, true)
	}
	return cmp.Or(object.meta().ResourceVersion, version), nil
}

// readLine reads a line, which may not be longer than limit. The last one need not end.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return nil, fmt.Errorf("an event of more than %d bytes", limit)
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
