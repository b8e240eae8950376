package gitsource

import (
	"bufio"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// inflater reads one compressed object after another and keeps its buffers.
type inflater struct {
	raw *bufio.Reader
	z   io.ReadCloser // nil before the first
}

// firstRead is how much is read of an object at once: most are shorter.
const firstRead = 4 << 10

var inflaters = sync.Pool{New: func() any { return &inflater{raw: bufio.NewReaderSize(nil, firstRead)} }}

// from goes to a place in a file; raw reads on from there.
func (i *inflater) from(file io.ReaderAt, at int64) {
	i.raw.Reset(io.NewSectionReader(file, at, math.MaxInt64-at))
}

// begin starts inflating what raw reads.
func (i *inflater) begin() error {
	if i.z == nil {
		z, err := zlib.NewReader(i.raw)
		i.z = z
		return unexpected(err)
	}
	return unexpected(i.z.(zlib.Resetter).Reset(i.raw, nil))
}

// head inflates up to n bytes and no more.
func (i *inflater) head(n int) ([]byte, error) {
	if err := i.begin(); err != nil {
		return nil, err
	}
	out := make([]byte, n)
	n, err := io.ReadFull(i.z, out)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return out[:n], nil
}

// whole inflates what must be size bytes.
func (i *inflater) whole(size int64) ([]byte, error) {
	if err := i.begin(); err != nil {
		return nil, err
	}
	return i.rest(size)
}

// rest reads what must be the last size bytes. Reading their end checks the sum
// that follows them.
func (i *inflater) rest(size int64) ([]byte, error) {
	out := make([]byte, size)
	if _, err := io.ReadFull(i.z, out); err != nil {
		return nil, unexpected(err)
	}
	var more [1]byte
	switch n, err := i.z.Read(more[:]); {
	case n > 0:
		return nil, fmt.Errorf("more than the %d bytes that it says", size)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	}
	return out, nil
}

// unexpected is err, and for an end where there should be more io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
