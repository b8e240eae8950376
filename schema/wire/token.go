package wire

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
)

// Token is a join token: "<id>.<secret>.<pin>", all hex. The pin lets a machine
// that knows nothing else recognise the cluster before it says the secret.
type Token struct {
	ID     string // 12 digits, no secret
	Secret string // 32 digits
	Pin    string // Pin of the cluster's CA
}

var tokenForm = regexp.MustCompile(`^([0-9a-f]{12})\.([0-9a-f]{32})\.([0-9a-f]{64})$`)

// ParseToken reads what Token.String wrote. Its error does not repeat the text.
func ParseToken(s string) (Token, error) {
	m := tokenForm.FindStringSubmatch(s)
	if m == nil {
		return Token{}, fmt.Errorf("not a join token: want <id>.<secret>.<ca pin>, as `fairlead token` prints it")
	}
	return Token{ID: m[1], Secret: m[2], Pin: m[3]}, nil
}

// String is the form that is handed to an agent.
func (t Token) String() string { return t.ID + "." + t.Secret + "." + t.Pin }

// Pin identifies a certificate's key: SHA-256 of its SubjectPublicKeyInfo
// (RFC 7469, section 2.4) in hex.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// NodePrefix stands before the node's name in its certificate's common name.
const NodePrefix = "node:"
