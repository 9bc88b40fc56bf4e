package discover_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// kube is a server that speaks as much of Kubernetes' API as discovery uses, as it is
// on the wire: lists in pages, watches as streams of JSON, versions that grow too old.
type kube struct {
	*httptest.Server
	mu       sync.Mutex
	token    string
	version  int
	oldest   int                       // versions before it are gone
	objects  map[string]map[string]any // by path and name
	events   []kubeEvent
	changed  chan struct{} // closed by each change
	broken   chan struct{} // closed to break all watches off
	noWatch  bool
	expire   int // how many continuations are refused
	requests []string
}

type kubeEvent struct {
	path, kind string
	version    int
	object     map[string]any
}

const (
	podsPath     = "/api/v1/namespaces/default/pods"
	servicesPath = "/api/v1/namespaces/default/services"
	nodesPath    = "/api/v1/nodes"
)

func newKube(t *testing.T) *kube {
	k := &kube{version: 100, objects: map[string]map[string]any{}, changed: make(chan struct{}), broken: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.21.8.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.Server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(k.serve)}}
	k.Start()
	t.Cleanup(func() {
		k.CloseClientConnections()
		k.Close()
	})
	return k
}

func (k *kube) port() int { return k.Listener.Addr().(*net.TCPAddr).Port }

// put stores an object, with its metadata, and tells those who watch.
func (k *kube) put(path, name string, labels map[string]string, rest map[string]any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	object := map[string]any{"metadata": map[string]any{
		"name": name, "uid": "uid-" + name, "resourceVersion": strconv.Itoa(k.version), "creationTimestamp": "2026-01-02T03:04:05Z", "labels": labels,
	}}
	maps.Copy(object, rest)
	if k.objects[path] == nil {
		k.objects[path] = map[string]any{}
	}
	kind := "ADDED"
	if k.objects[path][name] != nil {
		kind = "MODIFIED"
	}
	k.objects[path][name] = object
	k.tell(kubeEvent{path, kind, k.version, object})
}

func (k *kube) remove(path, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	object := k.objects[path][name].(map[string]any)
	delete(k.objects[path], name)
	k.tell(kubeEvent{path, "DELETED", k.version, object})
}

func (k *kube) tell(e kubeEvent) {
	k.events = append(k.events, e)
	close(k.changed)
	k.changed = make(chan struct{})
}

// forget makes all versions up to now too old, and breaks the watches off.
func (k *kube) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version += 10
	k.oldest = k.version
	k.events = nil
	close(k.broken)
	k.broken = make(chan struct{})
}

func (k *kube) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// asked counts the requests that contain a text.
func (k *kube) asked(part string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.requests {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

func (k *kube) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.requests = append(k.requests, r.URL.String())
	token, noWatch := k.token, k.noWatch
	k.mu.Unlock()
	watch := r.URL.Query().Get("watch") == "true"
	switch {
	case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
		kubeFailure(w, http.StatusUnauthorized, "Unauthorized")
	case r.URL.Path != podsPath && r.URL.Path != servicesPath && r.URL.Path != nodesPath:
		kubeFailure(w, http.StatusNotFound, "the server could not find the requested resource")
	case watch && noWatch:
		kubeFailure(w, http.StatusForbidden, `pods is forbidden: User "sidecar" cannot watch resource "pods"`)
	case watch:
		k.watch(w, r)
	default:
		k.list(w, r)
	}
}

func kubeFailure(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code})
}

// selects applies the one field selector that there is.
func selects(r *http.Request, object map[string]any) bool {
	node, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
	if !ok {
		return true
	}
	spec, _ := object["spec"].(map[string]any)
	return spec["nodeName"] == node
}

func (k *kube) list(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	limit = min(cmp.Or(limit, 1<<30), 2) // small pages
	after, version := "", k.version
	if c := r.URL.Query().Get("continue"); c != "" {
		fmt.Sscanf(c, "%d/%s", &version, &after)
		if k.expire > 0 || version < k.oldest {
			k.expire--
			kubeFailure(w, http.StatusGone, "The provided continue parameter is too old")
			return
		}
	}
	items, next := []any{}, ""
	names := slices.Sorted(maps.Keys(k.objects[r.URL.Path]))
	for i, name := range names {
		object := k.objects[r.URL.Path][name].(map[string]any)
		if name <= after || !selects(r, object) {
			continue
		}
		if items = append(items, object); len(items) == limit {
			if i < len(names)-1 {
				next = fmt.Sprintf("%d/%s", version, name)
			}
			break
		}
	}
	json.NewEncoder(w).Encode(map[string]any{
		"kind": "List", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": strconv.Itoa(version), "continue": next}, "items": items,
	})
}

func (k *kube) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	seconds, _ := strconv.Atoi(r.URL.Query().Get("timeoutSeconds"))
	timeout := time.After(time.Duration(seconds) * time.Second)
	out := json.NewEncoder(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		k.mu.Lock()
		if from < k.oldest {
			k.mu.Unlock()
			out.Encode(map[string]any{"type": "ERROR", "object": map[string]any{"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}})
			return
		}
		for _, e := range k.events {
			if e.version > from && e.path == r.URL.Path && selects(r, e.object) {
				out.Encode(map[string]any{"type": e.kind, "object": e.object})
			}
		}
		from = k.version
		out.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(from)}}})
		changed, broken := k.changed, k.broken
		k.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-broken:
			return
		case <-timeout:
			return
		case <-r.Context().Done():
			return
		}
	}
}
