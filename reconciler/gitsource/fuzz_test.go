package gitsource

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-billy/v5/memfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"fairlead/schema"
)

// memoryRepo is a repository of loose objects in memory, made for trees that no
// git would write.
type memoryRepo struct {
	t     testing.TB
	store *filesystem.Storage
	*Repo
}

func newMemoryRepo(t testing.TB) memoryRepo {
	fs := memfs.New()
	below, err := fs.Chroot("objects")
	if err != nil {
		t.Fatal(err)
	}
	return memoryRepo{t, filesystem.NewStorage(fs, cache.NewObjectLRUDefault()), &Repo{
		dir: "/", stores: []*objects{newObjects(below, false)},
		sizes: newGenerations[plumbing.Hash, int64](maxCachedEntries), dirs: newGenerations[dirKey, *directory](maxCachedEntries),
	}}
}

func (m memoryRepo) put(kind plumbing.ObjectType, data []byte) plumbing.Hash {
	m.t.Helper()
	o := m.store.NewEncodedObject()
	o.SetType(kind)
	w, err := o.Writer()
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	w.Close()
	hash, err := m.store.SetEncodedObject(o)
	if err != nil {
		m.t.Fatal(err)
	}
	return hash
}

func (m memoryRepo) commit(tree plumbing.Hash) schema.Commit {
	return schema.Commit(m.put(plumbing.CommitObject, fmt.Appendf(nil, "tree %s\nauthor A <a@example.org> 1700000000 +0000\ncommitter A <a@example.org> 1700000000 +0000\n\nx\n", tree)).String())
}

// entry is one entry of a tree object.
func entry(mode, name string, hash plumbing.Hash) []byte {
	return slices.Concat([]byte(mode+" "+name+"\x00"), hash[:])
}

// Whatever a tree object holds, a walk ends, and the paths it gives are those of
// plain files below the root, each once.
func FuzzTree(f *testing.F) {
	seeds := newMemoryRepo(f)
	blob := seeds.put(plumbing.BlobObject, []byte("a: b\n"))
	below := seeds.put(plumbing.TreeObject, entry("100644", "c.yaml", blob))
	f.Add(slices.Concat(entry("100644", "a.yaml", blob), entry("40000", "b", below), entry("120000", "l", blob), entry("160000", "m", blob)), ".")
	f.Add(slices.Concat(entry("100644", "..", blob), entry("040000", ".", below), entry("100644", "a/b", blob), entry("100644", "", blob)), "..")
	f.Add(slices.Concat(entry("40000", "b", below), entry("100644", "b", blob), entry("100755", "\xff", blob), entry("100664", "a\nb", blob)), "b")
	f.Add(slices.Concat(entry("40000", "b", blob), entry("100644", "c", below), entry("777", "d", plumbing.ZeroHash)), "b/")
	f.Add(entry("100644", "gone", plumbing.NewHash(strings.Repeat("1", 40))), "")
	f.Add([]byte("100644 cut\x00abc"), "")
	f.Fuzz(func(t *testing.T, data []byte, root string) {
		m := newMemoryRepo(t)
		m.put(plumbing.BlobObject, []byte("a: b\n"))
		m.put(plumbing.TreeObject, entry("100644", "c.yaml", blob))
		commit := m.commit(m.put(plumbing.TreeObject, data))
		tree, err := m.Tree(commit, root)
		if err != nil {
			return
		}
		prefix := strings.TrimPrefix(path.Clean("/"+root), "/")
		for i, file := range tree.Files {
			if path.Clean("/"+file.Path) != "/"+file.Path || !strings.HasPrefix(file.Path, prefix) || strings.ContainsAny(file.Path, "\x00\n") {
				t.Errorf("file %q below %q", file.Path, prefix)
			}
			if i > 0 && tree.Files[i-1].Path >= file.Path {
				t.Errorf("%q after %q", file.Path, tree.Files[i-1].Path)
			}
			if text, err := file.Open(); err == nil && int64(len(text)) != file.Size {
				t.Errorf("%q has %d bytes, not %d", file.Path, len(text), file.Size)
			}
		}
		for _, d := range tree.Refused {
			if d.Path == "" || d.Message == "" || d.Severity != schema.Error {
				t.Errorf("refused without a place or a word: %+v", d)
			}
		}
	})
}

// A few objects that name each other unfold no further than the bounds.
func TestTreesThatUnfold(t *testing.T) {
	m := newMemoryRepo(t)
	at := m.put(plumbing.TreeObject, entry("100644", "a.yaml", m.put(plumbing.BlobObject, []byte("a: b\n"))))
	deep := at
	for range maxDepth + 1 {
		deep = m.put(plumbing.TreeObject, entry("40000", "d", deep))
	}
	for range 40 { // 2^40 files
		at = m.put(plumbing.TreeObject, slices.Concat(entry("40000", "x", at), entry("40000", "y", at)))
	}
	for name, tree := range map[string]plumbing.Hash{"deep": deep, "wide": at} {
		_, err := m.Tree(m.commit(tree), ".")
		if err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A webhook counts exactly when its sender knew the secret, whatever else it
// says.
func FuzzWebhook(f *testing.F) {
	const secret = "quiet"
	signed := func(body string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	f.Add("POST", "/hooks/main", signed(`{"ref":"refs/heads/main"}`), "", `{"ref":"refs/heads/main"}`)
	f.Add("POST", "/hooks/main", "", secret, "x")
	f.Add("POST", "/hooks/main", "sha256=zz", secret, "x")
	f.Add("POST", "/hooks/../main", "", secret, "")
	f.Add("GET", "/hooks/main", "", secret, "")
	f.Add("POST", "/hooks/other", "", "", "")
	f.Fuzz(func(t *testing.T, method, at, signature, token, body string) {
		request, err := http.NewRequest("POST", "http://master", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Method, request.URL.Path = method, at
		request.Header["X-Hub-Signature-256"] = []string{signature}
		request.Header["X-Gitlab-Token"] = []string{token}
		hinted := ""
		answer := httptest.NewRecorder()
		WebhookHandler(func(source schema.SourceName) string {
			if source == "main" {
				return secret
			}
			return ""
		}, func(source schema.SourceName) { hinted = string(source) }).ServeHTTP(answer, request)
		given, err := hex.DecodeString(strings.TrimPrefix(signature, "sha256="))
		right, _ := hex.DecodeString(strings.TrimPrefix(signed(body), "sha256="))
		proven := signature != "" && err == nil && bytes.Equal(given, right) || signature == "" && token == secret
		if want := method == "POST" && at == "/hooks/main" && proven; want != (hinted == "main") || want != (answer.Code == http.StatusAccepted) {
			t.Errorf("hinted %q, %d %s", hinted, answer.Code, answer.Body)
		}
		if answer.Code >= 500 || strings.Contains(answer.Body.String(), secret) && !strings.Contains(at, secret) {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}
