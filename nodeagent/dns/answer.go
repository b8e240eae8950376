package dns

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
)

// Response codes and header flags of RFC 1035, RFC 6891.
const (
	rcodeSuccess  = 0
	rcodeFormat   = 1
	rcodeFailure  = 2
	rcodeNoName   = 3
	rcodeNotImpl  = 4
	rcodeRefused  = 5
	rcodeBadVers  = 16
	flagResponse  = 1 << 15
	flagAuthority = 1 << 10
	flagTruncated = 1 << 9
	flagRecurse   = 1 << 8
	flagRecursion = 1 << 7
	opcodeMask    = 0xf << 11
)

const (
	headerBytes = 12
	// ourUDPBytes is what we take over UDP and at most send: it fits every
	// link unfragmented.
	ourUDPBytes = 1232
	minUDPBytes = 512
	optBytes    = 11
)

// query is one question taken apart, without allocation: offsets into it.
type query struct {
	message  []byte
	name     []byte // wire form, lower case; in the caller's buffer
	question int    // end of the question section
	qtype    uint16
	qclass   uint16
	edns     bool
	badVers  bool
	limit    int // bytes the answer may have
}

// outcome says what becomes of a message.
type outcome uint8

const (
	drop outcome = iota
	reply
	forward
)

// answer reads a message and appends the reply to out, which must be empty with
// its message's capacity. limit is the transport's bound, 0 for UDP as the
// question says. Names that are not the cluster's are to be forwarded.
func (z *zone) answer(message, out []byte, limit int) ([]byte, outcome) {
	var lower [maxNameBytes]byte
	q, rcode, ok := parse(message, lower[:0])
	if !ok {
		return nil, drop
	}
	if limit > 0 {
		q.limit = limit
	}
	switch {
	case rcode != rcodeSuccess:
		return q.fail(out, rcode), reply
	case q.badVers:
		return q.fail(out, rcodeBadVers), reply
	case q.qclass != classIN && q.qclass != classANY:
		return q.fail(out, rcodeRefused), reply
	}
	if within(q.name, z.domain) {
		return z.answerName(q, out), reply
	}
	if bytes.HasSuffix(q.name, []byte(reverseDomain)) && z.reverse(q.name) {
		return z.answerName(q, out), reply
	}
	return nil, forward
}

// parse takes a message apart; ok is false if it cannot even be answered.
func parse(m, lower []byte) (q query, rcode uint16, ok bool) {
	if len(m) < headerBytes {
		return q, 0, false
	}
	flags := binary.BigEndian.Uint16(m[2:])
	if flags&flagResponse != 0 {
		return q, 0, false
	}
	q = query{message: m, question: headerBytes, limit: minUDPBytes}
	if flags&opcodeMask != 0 {
		return q, rcodeNotImpl, true
	}
	if binary.BigEndian.Uint16(m[4:]) != 1 {
		return q, rcodeFormat, true
	}
	lower, at := lowerName(m, headerBytes, lower)
	if at == 0 || at+4 > len(m) {
		return q, rcodeFormat, true
	}
	q.name, q.qtype, q.qclass, q.question = lower, binary.BigEndian.Uint16(m[at:]), binary.BigEndian.Uint16(m[at+2:]), at+4
	if !q.parseOPT() {
		return q, rcodeFormat, true
	}
	return q, rcodeSuccess, true
}

// lowerName appends the name that stands at a place of a message to lower, in lower case,
// and returns where it ends; 0 for none.
func lowerName(m []byte, at int, lower []byte) (name []byte, end int) {
	for at < len(m) {
		n := int(m[at])
		if n > maxLabelBytes || at+1+n > len(m) || len(lower)+1+n > maxNameBytes {
			return lower, 0
		}
		lower = append(lower, m[at])
		for _, c := range m[at+1 : at+1+n] {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			lower = append(lower, c)
		}
		at += 1 + n
		if n == 0 {
			return lower, at
		}
	}
	return lower, 0
}

// parseOPT looks for the EDNS record among what follows the question.
func (q *query) parseOPT() bool {
	m := q.message
	records := int(binary.BigEndian.Uint16(m[6:])) + int(binary.BigEndian.Uint16(m[8:])) + int(binary.BigEndian.Uint16(m[10:]))
	at := q.question
	for range records {
		for at < len(m) && m[at] != 0 && m[at] < 0xc0 {
			at += 1 + int(m[at])
		}
		if at < len(m) && m[at] >= 0xc0 {
			at++
		}
		at++
		if at+10 > len(m) {
			return false
		}
		if binary.BigEndian.Uint16(m[at:]) == typeOPT {
			q.edns = true
			q.limit = min(max(int(binary.BigEndian.Uint16(m[at+2:])), minUDPBytes), ourUDPBytes)
			q.badVers = m[at+5] != 0
		}
		at += 10 + int(binary.BigEndian.Uint16(m[at+8:]))
	}
	return at <= len(m)
}

// within reports whether name is zone or below it.
func within(name []byte, zone string) bool {
	if len(name) < len(zone) || string(name[len(name)-len(zone):]) != zone {
		return false
	}
	for at := 0; at <= len(name)-len(zone); at += 1 + int(name[at]) {
		if at == len(name)-len(zone) {
			return true
		}
	}
	return false
}

// reverse reports whether a name under in-addr.arpa is that of an address of
// the cluster.
func (z *zone) reverse(name []byte) bool {
	octets := strings.Builder{}
	var labels [4]string
	at := 0
	for i := range labels {
		if at >= len(name)-len(reverseDomain) {
			return false
		}
		n := int(name[at])
		labels[3-i] = string(name[at+1 : at+1+n])
		at += 1 + n
	}
	if at != len(name)-len(reverseDomain) {
		return false
	}
	for i, l := range labels {
		if i > 0 {
			octets.WriteByte('.')
		}
		octets.WriteString(l)
	}
	ip, err := netip.ParseAddr(octets.String())
	return err == nil && (z.podCIDR.Contains(ip) || z.services.Contains(ip))
}

// answerName answers a name of ours.
func (z *zone) answerName(q query, out []byte) []byte {
	r, ok := z.names[string(q.name)] // the compiler makes no string of it
	if !ok {
		if ip, isPod := z.podAddress(q.name); isPod {
			return z.answerPod(q, out, ip)
		}
		return z.negative(q, out, rcodeNoName)
	}
	set, extra := r.asked(q.qtype)
	if set.count == 0 {
		if string(q.name) == z.domain && q.qtype == typeSOA {
			return z.positiveSOA(q, out)
		}
		return z.negative(q, out, rcodeSuccess)
	}
	return q.positive(out, set, extra)
}

// asked are the records of a type, with what goes along.
func (r *records) asked(qtype uint16) (set, extra rrset) {
	switch qtype {
	case typeA:
		set = r.a
	case typePTR:
		set = r.ptr
	case typeTXT:
		set = r.txt
	case typeSRV:
		set, extra = r.srv, r.extra
	case typeANY:
		for _, s := range []rrset{r.a, r.ptr, r.srv, r.txt} {
			if set.count == 0 {
				set = s
			}
		}
	}
	return set, extra
}

// podAddress reads a-b-c-d.<namespace>.pod.<domain>; isPod is true for the
// namespace's name itself too, with no address.
func (z *zone) podAddress(name []byte) (ip netip.Addr, isPod bool) {
	if !within(name, z.pod) {
		return ip, false
	}
	labels := name[:len(name)-len(z.pod)]
	first := string(labels[1 : 1+labels[0]])
	rest := labels[1+labels[0]:]
	if len(rest) == 0 {
		return ip, true
	}
	if len(rest) != 1+int(rest[0]) {
		return ip, false
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(first, "-", "."))
	return ip, err == nil && ip.Is4() && z.podCIDR.Contains(ip)
}

func (z *zone) answerPod(q query, out []byte, ip netip.Addr) []byte {
	if !ip.IsValid() || q.qtype != typeA && q.qtype != typeANY {
		return z.negative(q, out, rcodeSuccess)
	}
	var set rrset
	set.add(typeA, ip.AsSlice())
	return q.positive(out, set, rrset{})
}

// header appends header and question.
func (q query) header(out []byte, flags uint16, answers, authority, additional uint16) []byte {
	if q.edns {
		additional++
	}
	asked := binary.BigEndian.Uint16(q.message[2:])
	out = append(out, q.message[0], q.message[1])
	out = binary.BigEndian.AppendUint16(out, flagResponse|flagRecursion|asked&(flagRecurse|opcodeMask)|flags)
	questions := uint16(0)
	if q.question > headerBytes {
		questions = 1
	}
	out = binary.BigEndian.AppendUint16(out, questions)
	out = binary.BigEndian.AppendUint16(out, answers)
	out = binary.BigEndian.AppendUint16(out, authority)
	out = binary.BigEndian.AppendUint16(out, additional)
	return append(out, q.message[headerBytes:q.question]...)
}

// opt appends our EDNS record if the question had one.
func (q query) opt(out []byte, rcode uint16) []byte {
	if !q.edns {
		return out
	}
	out = append(out, 0, 0, typeOPT)
	out = binary.BigEndian.AppendUint16(out, ourUDPBytes)
	return append(out, byte(rcode>>4), 0, 0, 0, 0, 0)
}

// positive appends the whole answer, or a truncated one that sends the asker to
// TCP. Addresses are turned round, so that askers who take the first spread.
func (q query) positive(out []byte, set, extra rrset) []byte {
	room := q.limit - q.question
	if q.edns {
		room -= optBytes
	}
	if len(set.wire) > room {
		return q.opt(q.header(out, flagAuthority|flagTruncated, 0, 0, 0), 0)
	}
	if len(set.wire)+len(extra.wire) > room {
		extra = rrset{}
	}
	out = q.header(out, flagAuthority, set.count, 0, extra.count)
	turn := 0
	if set.count > 1 && len(set.wire) == aRecordBytes*int(set.count) {
		turn = aRecordBytes * (int(binary.BigEndian.Uint16(q.message)) % int(set.count))
	}
	out = append(out, set.wire[turn:]...)
	out = append(out, set.wire[:turn]...)
	out = append(out, extra.wire...)
	return q.opt(out, 0)
}

// owner appends a pointer to the part of the question's name that is the zone.
func (z *zone) owner(q query, out []byte) []byte {
	zone := len(z.domain)
	if !within(q.name, z.domain) {
		zone = len(reverseDomain)
	}
	return binary.BigEndian.AppendUint16(out, uint16(pointer|questionName+len(q.name)-zone))
}

// negative says that the name is not there, or has nothing of that type.
func (z *zone) negative(q query, out []byte, rcode uint16) []byte {
	out = q.header(out, flagAuthority|rcode, 0, 1, 0)
	out = append(z.owner(q, out), z.soa...)
	return q.opt(out, 0)
}

func (z *zone) positiveSOA(q query, out []byte) []byte {
	out = q.header(out, flagAuthority, 1, 0, 0)
	out = append(z.owner(q, out), z.soa...)
	return q.opt(out, 0)
}

// fail appends a reply without records.
func (q query) fail(out []byte, rcode uint16) []byte {
	return q.opt(q.header(out, rcode&0xf, 0, 0, 0), rcode)
}
