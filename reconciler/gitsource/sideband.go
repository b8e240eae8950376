package gitsource

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
)

// progressBand is that of text for the user (gitprotocol-pack(5)).
const progressBand = 2

// sideband reads the answer to a push as it passes, packet by packet, and adds a
// line where git says that it met a limit of ours: its own words name a system
// call. Bytes that are no packets pass as they are.
type sideband struct {
	packet []byte // that has begun
	want   int    // its bytes, once its head is known
	broken bool   // what passes is no packets
	told   bool
	also   func() string // what the push was ended for, "" while it was not; nil for nothing
}

// packetHead is a packet's length in hexadecimal digits, itself included.
const packetHead = 4

// explained is p, with what is to be added.
func (s *sideband) explained(p []byte) []byte {
	if s.broken || s.told {
		return p
	}
	var out []byte
	for i, b := range p {
		out = append(out, b)
		s.packet = append(s.packet, b)
		if len(s.packet) == packetHead {
			n, err := strconv.ParseUint(string(s.packet), 16, 16)
			if err != nil || n > 0 && n < packetHead {
				s.broken = true
				return append(out, p[i+1:]...)
			}
			s.want = max(int(n), packetHead)
		}
		if len(s.packet) < packetHead || len(s.packet) < s.want {
			continue
		}
		why := metLimit(s.packet)
		if why == "" && s.also != nil {
			why = s.also()
		}
		s.packet = s.packet[:0]
		if why != "" {
			s.told = true
			return slices.Concat(out, line(why), p[i+1:])
		}
	}
	return out
}

// metLimit is what a packet's text means, if it says that git met a limit.
func metLimit(packet []byte) string {
	if len(packet) <= packetHead || packet[packetHead] != progressBand {
		return ""
	}
	text := bytes.ToLower(packet)
	for _, sign := range []struct{ words, means string }{
		{"out of memory", fmt.Sprintf("the push needs more than the %d MiB of memory that git may take here: an object in it is too large, or is made from one that is", receiveMemory>>20)},
		{"died of signal 24", fmt.Sprintf("the push takes more than the %s of processor time that it may", gitProcessor)},
		{"died of signal 25", fmt.Sprintf("the push needs a file of more than %d GiB", maxPackFile>>30)},
		{"exceeds maximum allowed size", fmt.Sprintf("a push has at most %d MiB; send the history in parts", MaxPushBytes>>20)},
	} {
		if bytes.Contains(text, []byte(sign.words)) {
			return sign.means
		}
	}
	return ""
}

// line is a packet that shows a line to the user.
func line(text string) []byte {
	text = "fairlead: " + text + "; nothing was changed\n"
	return fmt.Appendf(nil, "%04x%c%s", packetHead+1+len(text), progressBand, text)
}
