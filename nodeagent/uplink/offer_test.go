package uplink

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema/wire"
)

// A master that lost its store is told what was kept, once it takes it, and by
// each connection anew.
func TestWhatWasKeptIsOffered(t *testing.T) {
	have := wire.Split(work(1, 1))
	have["records/Source//main"], have["seals/uid-0"] = json.RawMessage(`"r"`), json.RawMessage(`"s"`)
	have["secrets/default/key"] = json.RawMessage(`{"k":"AA=="}`)
	wrong := wire.Delta(have, wire.Split(work(2, 2)), 7, 8)
	wrong.Hash = strings.Repeat("0", 32)
	connections := [][]wire.Frame{
		{wrong},
		{{Recover: true}, {Recover: true}, {Recover: true}},
		{{Recover: true}, wire.Delta(nil, have, 0, 90)},
	}
	var told []wire.Kept
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathWork, func(w http.ResponseWriter, r *http.Request) {
		if len(connections) == 0 {
			<-r.Context().Done()
			return
		}
		for _, f := range connections[0] {
			json.NewEncoder(w).Encode(f)
		}
		connections = connections[1:]
	})
	refuse := true
	mux.HandleFunc("POST "+wire.PathKept, func(w http.ResponseWriter, r *http.Request) {
		var kept wire.Kept
		if err := json.NewDecoder(r.Body).Decode(&kept); err != nil {
			t.Error(err)
		}
		told = append(told, kept)
		if refuse {
			refuse = false
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	c := master(t, mux)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c.Follow(ctx, 7, have, func(u Update) {
		if u.Version != 90 {
			t.Errorf("version %d is handed on, want nothing but what the master then sends", u.Version)
		}
		cancel()
	})
	want := wire.Kept{Version: 7, Items: wire.Items{
		"pods/uid-0": have["pods/uid-0"], "records/Source//main": have["records/Source//main"], "seals/uid-0": have["seals/uid-0"],
	}}
	// Refused, taken and not offered again; then by the next connection.
	if diff := cmp.Diff([]wire.Kept{want, want, want}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
