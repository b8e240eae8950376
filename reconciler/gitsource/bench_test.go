package gitsource

import (
	"fmt"
	"path/filepath"
	"testing"

	"fairlead/schema"
)

// large is a packed repository of n small manifests in directories of 100, and
// a second commit that changes one of them.
func large(b *testing.B, n int) (dir string, first, second schema.Commit) {
	w := newWork(b)
	for i := range n {
		w.write(fmt.Sprintf("apps/team%d/app%d.yaml", i/100, i), fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app%d\n", i))
	}
	first = w.commit("all")
	w.write("apps/team3/app301.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app301\n  labels: {v: two}\n")
	second = w.commit("one")
	dir = filepath.Join(b.TempDir(), "bare.git")
	w.in("", "clone", "--quiet", "--bare", "--no-local", w.dir, dir)
	return dir, first, second
}

func list(b *testing.B, repo *Repo, commit schema.Commit) schema.Tree {
	got, err := repo.Tree(commit, "apps")
	if err != nil {
		b.Fatal(err)
	}
	return got
}

var sizes = []int{1_000, 10_000}

// A tree never seen before: every directory and every size.
func BenchmarkTreeCold(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, first, _ := large(b, n)
			for b.Loop() {
				repo := open(b, dir)
				if got := len(list(b, repo, first).Files); got != n {
					b.Fatalf("%d files", got)
				}
				repo.Close()
			}
		})
	}
}

// Every file's bytes after the listing.
func BenchmarkReadAll(b *testing.B) {
	dir, first, _ := large(b, 10_000)
	repo := open(b, dir)
	files := list(b, repo, first).Files
	for b.Loop() {
		for _, f := range files {
			if _, err := f.Open(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// Nothing new (P10): look at the branch and at the tree's name.
func BenchmarkNothingNew(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, _, _ := large(b, n)
			repo := open(b, dir)
			for b.Loop() {
				tip, _, err := repo.Branch("main")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := repo.TreeHash(tip, "apps"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One object of many changed (P11): the share of reading, listing and opening
// it. Each turn starts from what the last revision left in the caches.
func BenchmarkOneChanged(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, first, second := large(b, n)
			for b.Loop() {
				b.StopTimer()
				repo := open(b, dir)
				old := list(b, repo, first).Files
				b.StartTimer()
				opened := 0
				for i, f := range list(b, repo, second).Files {
					if old[i].Hash != f.Hash {
						opened++
						if _, err := f.Open(); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StopTimer()
				if opened != 1 {
					b.Fatalf("opened %d files", opened)
				}
				repo.Close()
				b.StartTimer()
			}
		})
	}
}

// An outside repository on this machine's disk that has not moved (P10): no
// process is started.
func BenchmarkLookNothingNew(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, _, second := large(b, n)
			u := followed(b, dir, "")
			at(b, u, second)
			for b.Loop() {
				if _, err := u.Look(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One that moved by a commit that changes one file of many (P11): git fetches.
func BenchmarkLookOneChanged(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, first, second := large(b, n)
			w := &work{t: b, dir: dir}
			w.git("update-ref", "refs/heads/main", string(first))
			for b.Loop() {
				b.StopTimer()
				u := followed(b, dir, "")
				if _, err := u.Look(b.Context()); err != nil {
					b.Fatal(err)
				}
				w.git("update-ref", "refs/heads/main", string(second))
				b.StartTimer()
				if _, err := u.Look(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				w.git("update-ref", "refs/heads/main", string(first))
				b.StartTimer()
			}
		})
	}
}
