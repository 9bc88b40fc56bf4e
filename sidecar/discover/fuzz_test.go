package discover

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"
)

// FuzzKubeEvents reads what an API may send while changes are waited for.
func FuzzKubeEvents(f *testing.F) {
	f.Add([]byte(`{"type":"ADDED","object":{"metadata":{"name":"a","uid":"u","resourceVersion":"5"},"spec":{"nodeName":"n"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}}` + "\n"))
	f.Add([]byte(`{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}` + "\n"))
	f.Add([]byte(`{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}` + "\n{"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		pods := map[string]kubePod{}
		w := &follower[kubePod]{log: slog.New(slog.DiscardHandler), change: func(p kubePod, gone bool) {
			if delete(pods, p.Metadata.UID); !gone {
				pods[p.Metadata.UID] = p
			}
		}}
		lines, version := bufio.NewReaderSize(bytes.NewReader(stream), 16), "1"
		for {
			line, err := readLine(lines, 1<<10)
			if err == nil {
				if len(line) > 1<<10 {
					t.Fatalf("a line of %d bytes", len(line))
				}
				version, err = w.event(line, version)
			}
			if err != nil {
				break
			}
		}
		if version == "" {
			t.Error("the version is lost")
		}
		k := &Kubernetes{cfg: KubernetesConfig{AllNodes: true}, pods: pods, services: map[string]kubeService{"s": {Metadata: kubeMeta{Labels: map[string]string{"ServiceName": "s"}}}}}
		for id, p := range pods {
			p.Metadata.Labels = map[string]string{"ServiceName": "s"}
			pods[id] = p
		}
		if found, ok := k.found(); !ok || len(found) > len(pods) {
			t.Errorf("%d of %d pods", len(found), len(pods))
		}
	})
}

func TestReadLine(t *testing.T) {
	for _, tt := range []struct {
		text, line string
		err        error
	}{
		{"a\nb", "a\n", nil},
		{"", "", io.EOF},
		{"a", "", io.ErrUnexpectedEOF},
		{"0123456789012345678901234567\nb", "0123456789012345678901234567\n", nil},
	} {
		line, err := readLine(bufio.NewReaderSize(bytes.NewReader([]byte(tt.text)), 16), 30)
		if string(line) != tt.line || !errors.Is(err, tt.err) {
			t.Errorf("%q: %q, %v", tt.text, line, err)
		}
	}
	if _, err := readLine(bufio.NewReaderSize(bytes.NewReader(bytes.Repeat([]byte("a"), 100)), 16), 30); err == nil {
		t.Error("a line that is too long")
	}
}

// BenchmarkRegistryWrite measures what a write of the whole file costs with 2,000
// registrations.
func BenchmarkRegistryWrite(b *testing.B) {
	r := NewRegistry(RegistryConfig{Path: b.TempDir() + "/r.json"}, nil)
	entries := map[string]Entry{}
	for i := range 2000 {
		e, err := ParseRegistration([]byte(`{"Service": {"Name": "web", "Ports": [{"Port": 8080, "ServicePort": 80}]}, "TTL": "30s"}`), "10.0.0.1")
		if err != nil {
			b.Fatal(err)
		}
		e.Service.ID = fmt.Sprint("s", i)
		e.Service.Created = time.Unix(1, 0)
		entries[e.Service.ID] = e
	}
	for b.Loop() {
		if err := r.save(entries); err != nil {
			b.Fatal(err)
		}
	}
}
