package wire

import (
	"bytes"
	"encoding/json"
	"errors"
)

var errExponent = errors.New("a quantity has an exponent of more than two digits")

// UnmarshalJSON refuses a report with a quantity whose exponent has more than two
// digits before anything of it is read: Kubernetes' reader writes powers of ten out,
// and for twelve digits never ends.
func (r *Report) UnmarshalJSON(data []byte) error {
	if hasLargeExponent(data) {
		return errExponent
	}
	type plain Report
	return json.Unmarshal(data, (*plain)(r))
}

// hasLargeExponent looks for a value that is nothing but such a number, quoted or not.
func hasLargeExponent(data []byte) bool {
	for i := 0; i < len(data); i++ {
		first := i
		switch c := data[i]; {
		case c == '"':
			i = endOfText(data, i+1)
			first++
		case isNumeral(c):
			for i < len(data) && (isNumeral(data[i]) || data[i]|0x20 == 'e') {
				i++
			}
		default:
			continue
		}
		if isLargeExponent(bytes.TrimSpace(data[first:min(i, len(data))])) {
			return true
		}
	}
	return false
}

// endOfText is where the text that begins at i has its closing quote.
func endOfText(data []byte, i int) int {
	for i < len(data) && data[i] != '"' {
		if data[i] == '\\' {
			i++
		}
		i++
	}
	return i
}

func isLargeExponent(token []byte) bool {
	at := bytes.IndexAny(token, "eE")
	if at < 1 || bytes.ContainsFunc(token[:at], func(r rune) bool { return r > 'z' || !isNumeral(byte(r)) }) {
		return false
	}
	digits := bytes.TrimLeft(token[at+1:], "+-")
	return len(digits) > 2 && !bytes.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
}

func isNumeral(c byte) bool { return c >= '0' && c <= '9' || c == '.' || c == '+' || c == '-' }
