package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
)

// The largest bodies that are taken, in bytes. A registration carries labels, of
// which a record may have 8 kB, and how the service is checked.
const (
	maxRegistration = 64 << 10
	maxBeat         = 4 << 10
)

// body reads what the client sends.
func body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, pancake.Errorf(pancake.Invalid, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "the body did not arrive: %w", err)
	}
	return b, nil
}

func (a *api) registrar() (Registrar, error) {
	if a.Registrar == nil {
		return nil, pancake.Errorf(pancake.Unavailable, "this Sidecar takes no registrations")
	}
	return a.Registrar, nil
}

func (a *api) register(w http.ResponseWriter, r *http.Request) error {
	reg, err := a.registrar()
	if err != nil {
		return err
	}
	b, err := body(w, r, maxRegistration)
	if err != nil {
		return err
	}
	svc, err := reg.Register(r.Context(), r.PathValue("id"), b)
	if err != nil {
		return err
	}
	return serve.JSON(w, http.StatusOK, svc)
}

func (a *api) deregister(w http.ResponseWriter, r *http.Request) error {
	reg, err := a.registrar()
	if err != nil {
		return err
	}
	if err := reg.Deregister(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// beat takes a sign of life: {"Status": "alive", "Note": "…"}, or nothing, which
// means alive.
func (a *api) beat(w http.ResponseWriter, r *http.Request) error {
	reg, err := a.registrar()
	if err != nil {
		return err
	}
	b, err := body(w, r, maxBeat)
	if err != nil {
		return err
	}
	status, note, err := parseBeat(b)
	if err != nil {
		return err
	}
	if err := reg.Beat(r.Context(), r.PathValue("id"), status, note); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func parseBeat(b []byte) (pancake.ServiceStatus, string, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return pancake.Alive, "", nil
	}
	var in struct {
		Status json.RawMessage // a name or Sidecar's number
		Note   string
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return 0, "", pancake.Errorf(pancake.Invalid, `the body is not {"Status": "alive", "Note": "…"}: %w`, err)
	}
	if len(in.Status) == 0 {
		return pancake.Alive, in.Note, nil
	}
	var text string
	if json.Unmarshal(in.Status, &text) != nil {
		text = string(in.Status)
	}
	status, err := parseStatus(text)
	if err != nil {
		return 0, "", err
	}
	if status != pancake.Alive && status != pancake.Sick && status != pancake.Unknown {
		return 0, "", pancake.Errorf(pancake.Invalid, "a service reports itself alive, unhealthy or unknown, not %s; drain or delete it instead", text)
	}
	return status, in.Note, nil
}
