package nodeagent

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// No two pods share an address, an address rests after its pod, none outside
// the range or at its ends is given; over restarts as well.
func TestAddresses(t *testing.T) {
	dir := t.TempDir()
	chance.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "addresses")
		os.Remove(path)
		cidr := netip.MustParsePrefix("10.112.4.0/29")
		a, now := newAddresses(), start
		given := map[types.UID]netip.Addr{}
		freed := map[netip.Addr]time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			uid := types.UID(rapid.StringMatching("[a-i]").Draw(t, "pod"))
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				if _, had := given[uid]; !had { // one is looked for
					for ip, at := range freed {
						switch {
						case now.Before(at): // the clock was set back: it rests anew
							freed[ip] = now
						case now.Sub(at) >= addressRest: // for good, wherever the clock goes
							delete(freed, ip)
						}
					}
				}
				ip, err := a.give(uid, cidr, now)
				if err != nil {
					resting := 0
					for _, at := range freed {
						if now.Sub(at) < addressRest {
							resting++
						}
					}
					if len(given)+resting < 6 {
						t.Fatalf("refused with %d in use and %d resting: %v", len(given), resting, err)
					}
					continue
				}
				if had, ok := given[uid]; ok && had != ip {
					t.Fatalf("%s had %s and gets %s", uid, had, ip)
				}
				for other, taken := range given {
					if other != uid && taken == ip {
						t.Fatalf("%s and %s share %s", uid, other, ip)
					}
				}
				if _, had := given[uid]; !had && !freed[ip].IsZero() && now.Sub(freed[ip]) < addressRest {
					t.Fatalf("%s rested only %s", ip, now.Sub(freed[ip]))
				}
				if !cidr.Contains(ip) || ip == cidr.Addr() || ip == netip.MustParseAddr("10.112.4.7") {
					t.Fatalf("gave %s", ip)
				}
				given[uid] = ip
			case 2:
				if ip, ok := given[uid]; ok {
					a.release(uid, now)
					freed[ip] = now
					delete(given, uid)
				}
			case 3: // what runs has an address that is not the recorded one
				ip := netip.AddrFrom4([4]byte{10, 112, 4, byte(rapid.IntRange(1, 6).Draw(t, "kept"))})
				if slices.Contains(slices.Collect(maps.Values(given)), ip) {
					break
				}
				if had, ok := given[uid]; ok {
					freed[had] = now
				}
				a.keep(uid, ip, now)
				given[uid] = ip
			case 4:
				now = now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "back")) * time.Second)
			case 5:
				now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
				if err := a.save(path); err != nil {
					t.Fatal(err)
				}
				var err error
				if a, err = loadAddresses(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestWorkFile(t *testing.T) {
	dir := t.TempDir()
	open := func() *workFile {
		f, err := openWorkFile(filepath.Join(dir, "work"), filepath.Join(dir, "pki", "work.key"))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, items, err := open().load(); err != nil || items != nil {
		t.Fatalf("before the first: %v, %v", items, err)
	}
	items := wire.Items{"node": []byte(`{"node":"n1"}`), "secrets/shop/key": []byte(`{"token":"canary"}`)}
	if err := open().save(7, items); err != nil {
		t.Fatal(err)
	}
	version, got, err := open().load()
	if err != nil || version != 7 || cmp.Diff(items, got) != "" {
		t.Errorf("got version %d, %s, %v", version, got, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "work"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("canary")) {
		t.Error("the secret is in the clear")
	}
	for _, name := range []string{"work", "pki/work.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "work"), bytes.Replace(data, []byte(`"sealed":"`), []byte(`"sealed":"AA`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open().load(); err == nil {
		t.Error("a tampered file was taken")
	}
}

func TestATornRecordIsLeftOut(t *testing.T) {
	dirs := podDirs(t.TempDir())
	if err := os.MkdirAll(dirs.pod("uid-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dirs.record("uid-1"), []byte(`{"uid":"uid-1","name":"x","contai`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := dirs.loadRecords()
	if err != nil || len(got) != 1 || got[0].UID != "uid-1" || got[0].Name != "" || got[0].Containers == nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLogReader(t *testing.T) {
	log := "2026-01-02T03:04:05.000000000Z stdout F one\n" +
		"2026-01-02T03:04:06.000000000Z stderr P tw\n" +
		"2026-01-02T03:04:06.000000001Z stderr F o\n" +
		"2026-01-02T03:04:07.000000000Z stdout F \n" +
		"2026-01-02T03:04:08.000000000Z stdout F four words in it\n"
	n := func(v int64) *int64 { return &v }
	since := metav1.NewTime(start.Add(2 * time.Second))
	tests := []struct {
		name    string
		options corev1.PodLogOptions
		want    string
	}{
		{"whole", corev1.PodLogOptions{}, "one\ntwo\n\nfour words in it\n"},
		{"tail", corev1.PodLogOptions{TailLines: n(1)}, "four words in it\n"},
		{"tail of nothing", corev1.PodLogOptions{TailLines: n(0)}, ""},
		{"tail of more than there is", corev1.PodLogOptions{TailLines: n(99)}, "one\ntwo\n\nfour words in it\n"},
		{"since a time", corev1.PodLogOptions{SinceTime: &since}, "\nfour words in it\n"},
		{"since seconds ago", corev1.PodLogOptions{SinceSeconds: n(3)}, "\nfour words in it\n"},
		{"limit", corev1.PodLogOptions{LimitBytes: n(6)}, "one\ntw"},
		{"timestamps", corev1.PodLogOptions{Timestamps: true, TailLines: n(2)}, "2026-01-02T03:04:07.000000000Z \n2026-01-02T03:04:08.000000000Z four words in it\n"},
	}
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		var out bytes.Buffer
		l := logReader{path: path, options: test.options, now: start.Add(5 * time.Second), alive: func() bool { return false }}
		if err := l.copy(context.Background(), &out); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAFollowedLogGoesOnInItsNewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	line := func(s string) []byte { return []byte("2026-01-02T03:04:05.000000000Z stdout F " + s + "\n") }
	if err := os.WriteFile(path, line("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	looks := 0
	alive := func() bool {
		looks++
		if looks == 2 {
			if err := os.WriteFile(path+".new", line("two"), 0o600); err != nil {
				t.Error(err)
			}
			if err := os.Rename(path+".new", path); err != nil {
				t.Error(err)
			}
		}
		return looks < 4
	}
	var out bytes.Buffer
	if err := (logReader{path: path, options: corev1.PodLogOptions{Follow: true}, alive: alive}).copy(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "one\ntwo\n" {
		t.Errorf("got %q", out.String())
	}
}

// A link in the place of a log, or of its directory, shows no other file.
func TestALogIsNoLink(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("2026-01-02T03:04:05.000000000Z stdout F secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"file": func(path string) error { return os.Symlink(secret, path) },
		"pipe": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.Symlink(dir, filepath.Dir(path)), os.Link(secret, path))
		},
	} {
		logs := filepath.Join(dir, name)
		if err := os.Mkdir(logs, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(logs, "0.log")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		l := logReader{path: path, alive: func() bool { return false }}
		if err := l.copy(t.Context(), &out); err == nil || out.Len() > 0 {
			t.Errorf("%s: read %q, %v", name, out.String(), err)
		}
	}
}

func TestEvents(t *testing.T) {
	var l eventLog
	ev := func(message string) wire.Event { return wire.Event{Reason: "R", Message: message, Count: 1} }
	l.add(ev("a"))
	l.add(ev("a"))
	got, number := l.next()
	if len(got) != 1 || got[0].Count != 2 {
		t.Errorf("equal events: %+v", got)
	}
	l.add(ev("a")) // the first is on its way
	l.heard(number)
	if got, _ := l.next(); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("after the answer: %+v", got)
	}
	for i := range 3 * eventsKept {
		l.add(ev(time.Duration(i).String()))
	}
	if len(l.waiting) != eventsKept {
		t.Errorf("%d wait", len(l.waiting))
	}
	l.heard(number) // an old answer takes nothing away
	if len(l.waiting) != eventsKept {
		t.Errorf("an old answer: %d wait", len(l.waiting))
	}
}
