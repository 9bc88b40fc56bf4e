package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/api/document"
)

// worthZipping is the size, in bytes, from which a document is compressed.
const worthZipping = 1400

// answer sends a document: not at all to a client that has it already, and
// compressed to one that takes that.
func answer(w http.ResponseWriter, r *http.Request, doc *document.Document) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache") // kept, but asked for again each time
	h.Set("ETag", doc.Tag())
	h.Set("Vary", "Accept-Encoding")
	if matches(r.Header.Values("If-None-Match"), doc.Tag()) {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := doc.Body
	if len(body) >= worthZipping && takesGzip(r.Header.Values("Accept-Encoding")) {
		var err error
		if body, err = doc.Zipped(); err != nil {
			return err
		}
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return serve.Send(w, body)
}

// answerJSON sends v as a document, on one line.
func answerJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	return answer(w, r, document.New(append(b, '\n')))
}

// items yields the elements of a header that is a list.
func items(values []string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range values {
			for item := range strings.SplitSeq(v, ",") {
				if !yield(strings.TrimSpace(item)) {
					return
				}
			}
		}
	}
}

// matches reports whether a client that sends this If-None-Match has the document.
func matches(header []string, tag string) bool {
	for item := range items(header) {
		if item == "*" || strings.TrimPrefix(item, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

// takesGzip reports whether a client that sends this Accept-Encoding unpacks gzip.
func takesGzip(header []string) bool {
	for item := range items(header) {
		coding, params, _ := strings.Cut(item, ";")
		if strings.TrimSpace(coding) != "gzip" {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		weight, err := strconv.ParseFloat(q, 64)
		return !ok || err == nil && weight > 0
	}
	return false
}
