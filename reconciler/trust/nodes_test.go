package trust

import (
	"crypto/ecdsa"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// registryWith is a registry whose node n1 has 192.0.2.1 and the key returned.
func registryWith(t *testing.T) (*Authority, *ecdsa.PrivateKey) {
	t.Helper()
	cfg := config(&clock{start})
	cfg.ServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")
	a, key := open(t, t.TempDir(), cfg), newKey(t)
	if err := joinAt(t, a, newTokenFor(t, a, 0), "n1", "192.0.2.1", key); err != nil {
		t.Fatal(err)
	}
	return a, key
}

func joinAt(t *testing.T, a *Authority, token string, node schema.NodeName, address string, key *ecdsa.PrivateKey) error {
	t.Helper()
	_, err := a.Join(wire.JoinRequest{Token: token, Node: node, CSR: csr(t, key, "node:"+string(node)), NodeIPs: schema.List[string]{address}})
	return err
}

func tokenOf(t *testing.T, a *Authority, g JoinGrant) string {
	t.Helper()
	token, err := a.NewToken(g, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// An address is one node's, and is changed by a token made for that node alone.
func TestAddressesAreTheRegistrys(t *testing.T) {
	for name, test := range map[string]struct {
		grant   JoinGrant
		node    schema.NodeName
		address string
		sameKey bool
		refusal string // "" joins
		want    string // the address of node afterwards, "" that it is not registered
	}{
		"a free one":                            {JoinGrant{}, "n2", "192.0.2.2", false, "", "192.0.2.2"},
		"another's":                             {JoinGrant{}, "n2", "192.0.2.1", false, "is that of node n1", ""},
		"another's, with a token of its own":    {JoinGrant{Node: "n2"}, "n2", "192.0.2.1", false, "is that of node n1", ""},
		"another's, in another spelling":        {JoinGrant{}, "n2", "::ffff:192.0.2.1", false, "is that of node n1", ""},
		"a pod's":                               {JoinGrant{}, "n2", "10.113.0.9", false, "range of pods", ""},
		"a service's":                           {JoinGrant{}, "n2", "10.96.0.10", false, "range of services", ""},
		"nobody's":                              {JoinGrant{}, "n2", "0.0.0.0", false, "no IPv4 address that a machine", ""},
		"everybody's":                           {JoinGrant{}, "n2", "255.255.255.255", false, "no IPv4 address that a machine", ""},
		"a group's":                             {JoinGrant{}, "n2", "224.0.0.1", false, "no IPv4 address that a machine", ""},
		"none":                                  {JoinGrant{}, "n2", "n1", false, "no IPv4 address that a machine", ""},
		"of IPv6":                               {JoinGrant{}, "n2", "2001:db8::1", false, "no IPv4 address that a machine", ""},
		"not said":                              {JoinGrant{}, "n2", "", false, "", "invalid IP"},
		"the same again":                        {JoinGrant{}, "n1", "192.0.2.1", true, "", "192.0.2.1"},
		"a new one, same key":                   {JoinGrant{}, "n1", "192.0.2.9", true, "fairlead token --node n1", "192.0.2.1"},
		"a new one, another key":                {JoinGrant{}, "n1", "192.0.2.9", false, "fairlead token --node n1", "192.0.2.1"},
		"a new one, same key, vouched for":      {JoinGrant{Node: "n1"}, "n1", "192.0.2.9", true, "", "192.0.2.9"},
		"a new one, another key, vouched for":   {JoinGrant{Node: "n1"}, "n1", "192.0.2.9", false, "", "192.0.2.9"},
		"kept by an agent that does not say it": {JoinGrant{Node: "n1"}, "n1", "", false, "", "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			a, key := registryWith(t)
			if !test.sameKey {
				key = newKey(t)
			}
			err := joinAt(t, a, tokenOf(t, a, test.grant), test.node, test.address, key)
			if test.refusal == "" && err != nil || test.refusal != "" && (!errors.Is(err, ErrJoinRefused) || !strings.Contains(err.Error(), test.refusal)) {
				t.Errorf("got %v, want %q", err, test.refusal)
			}
			for _, a := range []*Authority{a, open(t, a.dir, config(&clock{start}))} { // what is visible is on disk
				got, ok := a.Node(test.node)
				if ok != (test.want != "") || ok && got.Address.String() != test.want {
					t.Errorf("%s has %v, %t, want %s", test.node, got.Address, ok, test.want)
				}
			}
		})
	}
}

// A node that joined before addresses were registered gets the first that it reports
// and may have; no report changes one that it has.
func TestSettleAddress(t *testing.T) {
	a, _ := registryWith(t)
	if err := joinAt(t, a, newTokenFor(t, a, 0), "n2", "", newKey(t)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		node              schema.NodeName
		reported, refused string
		want              string
	}{
		{"n1", "192.0.2.7", "", "192.0.2.1"},
		{"n2", "192.0.2.1", "is that of node n1", "invalid IP"},
		{"n2", "", "no IPv4 address", "invalid IP"},
		{"n2", "192.0.2.2", "", "192.0.2.2"},
		{"n2", "192.0.2.3", "", "192.0.2.2"},
	} {
		got, err := a.SettleAddress(step.node, schema.List[string]{step.reported})
		if step.refused == "" && err != nil || step.refused != "" && (!errors.Is(err, ErrJoinRefused) || !strings.Contains(err.Error(), step.refused)) {
			t.Errorf("%s reports %s: %v, want %q", step.node, step.reported, err, step.refused)
		}
		if got.Address.String() != step.want {
			t.Errorf("%s reports %s and has %s, want %s", step.node, step.reported, got.Address, step.want)
		}
	}
	if _, err := a.SettleAddress("n3", schema.List[string]{"192.0.2.3"}); err == nil || errors.Is(err, ErrJoinRefused) {
		t.Errorf("of a node that is not registered: %v", err)
	}
}

// Reserved labels come from the token a node joined with last, and from nowhere else.
func TestReservedLabelsComeWithTheToken(t *testing.T) {
	const pool = "node-restriction.kubernetes.io/pool"
	a, key := registryWith(t)
	labels := func() map[string]string { r, _ := a.Node("n1"); return r.Labels }
	if got := labels(); len(got) != 0 {
		t.Errorf("without any n1 has %v", got)
	}
	blue := map[string]string{pool: "blue"}
	for range 2 { // asked again, as after a lost answer
		if err := joinAt(t, a, tokenOf(t, a, JoinGrant{Node: "n1", Labels: blue}), "n1", "192.0.2.1", key); err != nil {
			t.Fatal(err)
		}
		if got := labels(); !maps.Equal(got, blue) {
			t.Errorf("n1 has %v, want %v", got, blue)
		}
	}
	if err := joinAt(t, a, tokenOf(t, a, JoinGrant{Node: "n1"}), "n1", "192.0.2.1", newKey(t)); err != nil {
		t.Fatal(err)
	}
	if got := labels(); len(got) != 0 {
		t.Errorf("another machine in n1's place has %v", got)
	}
}

func TestTokenLabelsAreReserved(t *testing.T) {
	a, _ := registryWith(t)
	many := map[string]string{}
	for i := range maxTokenLabels + 1 {
		many["node-restriction.kubernetes.io/"+strings.Repeat("x", i+1)] = "y"
	}
	for name, test := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"one that any node may say": {map[string]string{"pool": "blue"}, "node-restriction.kubernetes.io/pool"},
		"a zone":                    {map[string]string{"topology.kubernetes.io/zone": "a"}, "any node can give it itself"},
		"no key":                    {map[string]string{"node-restriction.kubernetes.io/": "a"}, "the key is not valid"},
		"no value":                  {map[string]string{"node-role.kubernetes.io/x": "a b"}, "the value is not valid"},
		"too many":                  {many, "at most 32"},
	} {
		if _, err := a.NewToken(JoinGrant{Labels: test.labels}, time.Hour); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
