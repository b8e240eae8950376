package e2e

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// What a pusher may do is done, whatever form git gives it; what nobody may do is
// refused in words, and what runs goes on. Each step builds on the one before.
func testHostilePush(t *testing.T) {
	c := fresh(t, 1)
	h := hostilePush{c: c, w: c.clone(t)}
	h.w.write(t, labTree(nil, workload{name: "running", replicas: 1, diaries: t.TempDir()}))
	h.w.pushHealthy(t, "what goes on running")
	h.before = c.truth()
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"many manifests in one directory, and a large one", h.many},
		{"a manifest renamed to what is no name", h.badNames},
		{"a pack that asks for a gigabyte", h.bomb},
	} {
		if !t.Run(step.name, step.run) {
			t.FailNow()
		}
	}
}

type hostilePush struct {
	c      *cluster
	w      worktree
	before map[string]container
}

// unchanged wants every container to be as it was.
func (h *hostilePush) unchanged(t *testing.T) {
	t.Helper()
	if wrong := changes(h.before, h.c.truth()); len(wrong) > 0 {
		t.Errorf("containers changed:\n%s", strings.Join(wrong, "\n"))
	}
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata: {v: %q}\n", name, lab, value)
}

// many is more than git unpacks, with a file and a directory that are more than
// 16 KiB as objects.
func (h *hostilePush) many(t *testing.T) {
	files := map[string]string{"large.yaml": configMap("large", strings.Repeat("a long value ", 4000))}
	for i := range 450 {
		files[fmt.Sprintf("many/a-manifest-with-a-long-name-%03d.yaml", i)] = configMap(fmt.Sprintf("many-%d", i), "x")
	}
	h.w.write(t, files)
	h.w.pushHealthy(t, "many")
	h.unchanged(t)
}

// badNames renames what runs, in a tree that no git would write.
func (h *hostilePush) badNames(t *testing.T) {
	tip := strings.TrimSpace(h.w.git(t, "rev-parse", "HEAD"))
	listed := h.w.git(t, "ls-tree", tip)
	// The last entry takes the name, so that the tree stays in git's order.
	lines := strings.Split(strings.TrimSpace(listed), "\n")
	for _, name := range []string{"\xff.yaml", "z\x1b[2J.yaml", "z\u202elmay.yaml"} {
		var raw bytes.Buffer
		for i, line := range lines {
			meta, entry, _ := strings.Cut(line, "\t")
			fields := strings.Fields(meta)
			if i == len(lines)-1 {
				entry = name
			}
			hash := make([]byte, sha1.Size)
			fmt.Sscanf(fields[2], "%x", &hash)
			fmt.Fprintf(&raw, "%s %s\x00%s", strings.TrimPrefix(fields[0], "0"), entry, hash)
		}
		file := filepath.Join(t.TempDir(), "tree")
		if err := os.WriteFile(file, raw.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		tree := strings.TrimSpace(h.w.git(t, "hash-object", "-t", "tree", "-w", "--literally", file))
		commit := strings.TrimSpace(h.w.git(t, "commit-tree", "-m", "renamed", "-p", tip, tree))
		out, err := h.w.tryGit(t, "push", "origin", commit+":main")
		if err == nil || !strings.Contains(out, " is a name ") {
			t.Errorf("a push of %q: %v\n%s", name, err, out)
		}
	}
	h.unchanged(t)
}

// bomb pushes 16 KB through the door that git would make a gigabyte of.
func (h *hostilePush) bomb(t *testing.T) {
	out, code := h.c.fairlead(t, "token", "--dir", h.c.dir, "--push", "main", "--name", "mallory")
	if code != 0 {
		t.Fatalf("token: %s", out)
	}
	fields := strings.Fields(out)
	body, err := h.push(t, fields[len(fields)-1], pack())
	if err != nil {
		t.Fatal(err)
	}
	if want := "fairlead: the push needs more than the 256 MiB of memory"; !strings.Contains(body, want) {
		t.Errorf("the answer is %q, want %q", body, want)
	}
	h.unchanged(t)
	h.w.git(t, "reset", "--quiet", "--hard", "HEAD")
	h.w.pushHealthy(t, "the next push")
}

func (h *hostilePush) push(t *testing.T, token string, pack []byte) (string, error) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(h.c.Kubeconfig)
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	for _, cluster := range config.Clusters {
		pool.AppendCertsFromPEM(cluster.CertificateAuthorityData)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pushTimeout)
	defer cancel()
	command := fmt.Sprintf("%s %s refs/heads/main\x00report-status side-band-64k", strings.TrimSpace(h.w.git(t, "rev-parse", "HEAD")), strings.Repeat("1", 40))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.c.API+"/git/main/git-receive-pack",
		io.MultiReader(strings.NewReader(fmt.Sprintf("%04x%s0000", len(command)+4, command)), bytes.NewReader(pack)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	return string(text), err
}

// pack is two blobs: 16 MiB of zeros, and those 64 times (gitformat-pack(5)).
func pack() []byte {
	const size = 1<<24 - 1
	deflated := func(data []byte) []byte {
		var out bytes.Buffer
		w := zlib.NewWriter(&out)
		w.Write(data)
		w.Close()
		return out.Bytes()
	}
	var out bytes.Buffer
	out.WriteString("PACK\x00\x00\x00\x02\x00\x00\x00\x02")
	blob := append([]byte{3<<4 | 0x80 | size&15}, binary.AppendUvarint(nil, size>>4)...)
	out.Write(append(blob, deflated(make([]byte, size))...))
	delta := binary.AppendUvarint(binary.AppendUvarint(nil, size), size*64)
	for range 64 {
		delta = append(delta, 0xf0, 0xff, 0xff, 0xff)
	}
	// A delta by its base's name: the blob's.
	base := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", size), make([]byte, size)...))
	head := append([]byte{7<<4 | 0x80 | byte(len(delta)&15)}, binary.AppendUvarint(nil, uint64(len(delta)>>4))...)
	out.Write(head)
	out.Write(base[:])
	out.Write(deflated(delta))
	sum := sha1.Sum(out.Bytes())
	out.Write(sum[:])
	return out.Bytes()
}
