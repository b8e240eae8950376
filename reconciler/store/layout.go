package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// The keys. Objects are /fairlead/v1/o/<kind>/<namespace>/<name>, the namespace
// being empty for cluster-scoped kinds.
const (
	prefix        = "/fairlead/v1/"
	metaPrefix    = prefix + "meta/"
	keySchema     = metaPrefix + "schema"  // schemaVersion
	keyTerm       = metaPrefix + "term"    // decimal; every load adds one
	keyRound      = metaPrefix + "round"   // decimal; moved by a round's last transaction
	keyCounter    = metaPrefix + "counter" // counters; moved with the round
	keyMissing    = metaPrefix + "missing" // lines: keys of records set aside that no round knows of yet
	objectPrefix  = wire.ObjectPrefix
	asidePrefix   = prefix + "aside/" // records that could not be read, each behind what its key was under objectPrefix, one of meta/ under prefix; further values of the same key behind it and a number
	schemaVersion = "2"
	// schemaJSON is of stores that hold JSON objects only. They are read as they
	// are and are of schemaVersion from the next load on.
	schemaJSON = "1"
)

// counters is the value of keyCounter.
type counters struct {
	ResourceVersion uint64 `json:"resourceVersion"`
	Creations       uint64 `json:"creations"`
}

func (c counters) encode() []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("store: encode counters: %v", err))
	}
	return data
}

// asideKey is where the nth value of a key that cannot be read is kept, from 1 on.
func asideKey(key string, n int) string {
	object, ok := strings.CutPrefix(key, objectPrefix)
	if !ok {
		object = strings.TrimPrefix(key, prefix)
	}
	if n > 1 {
		object += "/" + strconv.Itoa(n)
	}
	return asidePrefix + object
}

// firstAside is where the first value is kept of the key of which at keeps one.
func firstAside(at string) string {
	parts := strings.Split(strings.TrimPrefix(at, asidePrefix), "/")
	key := 3 // <kind>/<namespace>/<name>
	if parts[0]+"/" == strings.TrimPrefix(metaPrefix, prefix) {
		key = 2
	}
	if n, err := strconv.Atoi(parts[len(parts)-1]); err == nil && n > 1 && n <= maxAside && len(parts) == key+1 {
		return asidePrefix + strings.Join(parts[:key], "/")
	}
	return at
}

func decimal(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }

// objectKey refuses parts that would not come back as they went.
func objectKey(k schema.Key) (string, error) {
	if err := wire.CheckKey(k); err != nil {
		return "", err
	}
	return wire.StoreKey(k), nil
}

func parseObjectKey(key string) (schema.Key, error) {
	parts := strings.Split(strings.TrimPrefix(key, objectPrefix), "/")
	if len(parts) != 3 {
		return schema.Key{}, fmt.Errorf("key %q is not <kind>/<namespace>/<name>", key)
	}
	return schema.Key{Kind: schema.Kind(parts[0]), Namespace: parts[1], Name: parts[2]}, nil
}

// encodeRecord is the resourceVersion in decimal, a line feed, the object.
func encodeRecord(r *wire.Record) []byte {
	out := make([]byte, 0, len(r.Object)+21)
	out = strconv.AppendUint(out, r.ResourceVersion, 10)
	out = append(out, '\n')
	return append(out, r.Object...)
}

func decodeRecord(e entry) (wire.Record, error) {
	key, err := parseObjectKey(e.key)
	if err != nil {
		return wire.Record{}, err
	}
	version, object, ok := bytes.Cut(e.value, []byte{'\n'})
	if !ok {
		return wire.Record{}, fmt.Errorf("%s: value has no resourceVersion", e.key)
	}
	rv, err := strconv.ParseUint(string(version), 10, 64)
	if err != nil {
		return wire.Record{}, fmt.Errorf("%s: resourceVersion: %w", e.key, err)
	}
	return wire.Record{Key: key, ResourceVersion: rv, Object: object}, nil
}
