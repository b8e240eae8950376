package schema

import (
	"bytes"
	"encoding/json"
)

// List is what a format carries of something that there may be several of, such as
// the addresses of a machine: an IPv4 one today, and one of another family beside it
// without a new format. A list of one is written in JSON as that value alone, which is
// how people write it and how older records and programs have it; any other as a list.
// Both are read; null and an empty text are an empty list.
type List[T any] []T

// First is the first value, the zero value of an empty list. In lists of addresses
// that is the IPv4 one.
func (l List[T]) First() T {
	if len(l) == 0 {
		var none T
		return none
	}
	return l[0]
}

// MarshalJSON implements json.Marshaler.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]T(l))
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *List[T]) UnmarshalJSON(data []byte) error {
	var many []T
	switch data = bytes.TrimSpace(data); {
	case bytes.Equal(data, []byte("null")), bytes.Equal(data, []byte(`""`)):
	case bytes.HasPrefix(data, []byte("[")):
		if err := json.Unmarshal(data, &many); err != nil {
			return err
		}
	default:
		many = make([]T, 1)
		if err := json.Unmarshal(data, &many[0]); err != nil {
			return err
		}
	}
	*l = many
	return nil
}
