package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// index is what a view knows beyond its nodes, to find the best without asking
// each. All of it can be made again from the nodes.
type index struct {
	classes      map[types.UID]*class     // by owner
	requirements map[string]*requirements // by requirementsKey
	rankings     []*ranking               // those in use
	asked        uint64                   // how often a ranking was asked for
}

// Bounds on rankings: that which was asked longest ago makes room.
const (
	// maxRanks bounds the nodes in all of them, about 50 bytes each.
	maxRanks    = 1 << 19
	maxRankings = 1 << 10
)

// maxPassed is how many nodes with pods of the group are passed over in a ranking
// that does not count them, before the group gets one that does.
const maxPassed = 16

// ranking keeps the nodes that meet the requirements in the order of their scores, as far
// as the first place goes: a tournament. The leaves are the nodes in name order,
// each inner place holds the better of the two below it, and the root the best of
// all. One node's new score is played again along its way to the root.
type ranking struct {
	requirements *requirements
	group        group // whose pods count; the zero group counts none

	scores []score        // by place in View.nodes
	judged []*corev1.Node // for which suits and the preference in scores hold
	suits  []bool
	winner []int32 // the tree: children of k are 2k and 2k+1; -1 is nobody
	leaves int     // where they begin: a power of two

	logged  uint64 // what of View.log is counted
	asked   uint64
	dropped bool
}

// best is the place of the node that takes a class, -1 for none.
//
// As long as a group has pods on few nodes, they are passed over in the ranking
// that all pods with these requirements share: the first node without one is best among
// those, and what was passed is compared with it. A group on many nodes has a
// ranking of its own.
func (v *View) best(c *class) int {
	if r := c.ranking; r != nil && !r.dropped {
		v.refresh(r)
		return int(r.winner[1])
	}
	r := c.requirements.ranking
	if r == nil || r.dropped {
		r = v.rank(c.requirements, group{})
		c.requirements.ranking = r
	}
	v.refresh(r)
	if c.group == (group{}) {
		return int(r.winner[1])
	}
	s := search{view: v, ranking: r, group: &c.group, best: -1}
	s.below(1)
	if s.passed <= maxPassed {
		return s.best
	}
	c.ranking = v.rank(c.requirements, c.group)
	return int(c.ranking.winner[1])
}

// rank makes a ranking, and drops others to stay within the bounds.
func (v *View) rank(w *requirements, g group) *ranking {
	most := min(maxRankings, max(2, maxRanks/max(1, len(v.nodes))))
	for len(v.rankings) >= most {
		oldest := 0
		for i, r := range v.rankings {
			if r.asked < v.rankings[oldest].asked {
				oldest = i
			}
		}
		v.rankings[oldest].dropped = true
		v.rankings = slices.Delete(v.rankings, oldest, oldest+1)
	}
	r := &ranking{requirements: w, group: g}
	n := len(v.nodes)
	for r.leaves = 1; r.leaves < n; r.leaves *= 2 {
	}
	r.scores, r.judged, r.suits, r.winner = make([]score, n), make([]*corev1.Node, n), make([]bool, n), make([]int32, 2*r.leaves)
	v.rankings = append(v.rankings, r)
	v.rankAll(r)
	return r
}

// renumbered drops every ranking: places are no longer what they were.
func (v *View) renumbered() {
	v.dropRankings()
	v.log = v.log[:0]
	v.logged++
}

func (v *View) dropRankings() {
	for _, r := range v.rankings {
		r.dropped = true
	}
	v.rankings = nil
}

func (v *View) forgetIndex() {
	v.dropRankings()
	v.index = index{}
}

// refresh takes over what changed since the ranking was last asked.
func (v *View) refresh(r *ranking) {
	v.asked++
	r.asked = v.asked
	behind := v.logged - r.logged
	if behind > uint64(len(v.log)) {
		v.rankAll(r)
		return
	}
	for _, i := range v.log[len(v.log)-int(behind):] {
		if r.judge(v.nodes[i], i) {
			r.play(i)
		}
	}
	r.logged = v.logged
}

func (v *View) rankAll(r *ranking) {
	v.asked++
	r.asked, r.logged = v.asked, v.logged
	for k := range r.winner {
		r.winner[k] = -1
	}
	for i, n := range v.nodes {
		r.winner[r.leaves+i] = -1
		r.judge(n, int32(i))
	}
	for k := r.leaves - 1; k > 0; k-- {
		r.winner[k] = r.better(r.winner[2*k], r.winner[2*k+1])
	}
}

// judge scores one node anew and reports whether that may change who wins.
func (r *ranking) judge(n *NodeInfo, i int32) bool {
	s := &r.scores[i]
	before := *s
	if r.judged[i] != n.node {
		r.judged[i] = n.node
		if r.suits[i] = n.suits(r.requirements); r.suits[i] {
			*s = n.preference(r.requirements)
		}
	}
	leaf, now := &r.winner[r.leaves+int(i)], int32(-1)
	if r.suits[i] && n.hasRoom(r.requirements) {
		n.load(r.requirements, &r.group, s)
		now = i
	}
	changed := *leaf != now || now >= 0 && *s != before
	*leaf = now
	return changed
}

// play decides again who wins, on the way from a leaf to the root.
func (r *ranking) play(i int32) {
	for k := (r.leaves + int(i)) / 2; k > 0; k /= 2 {
		won := r.better(r.winner[2*k], r.winner[2*k+1])
		if r.winner[k] == won && won != i {
			return // i lost here before and loses again
		}
		r.winner[k] = won
	}
}

// better prefers a, whose name is lower, among equals.
func (r *ranking) better(a, b int32) int32 {
	switch {
	case a < 0:
		return b
	case b >= 0 && r.scores[b].less(&r.scores[a]):
		return b
	}
	return a
}

// search looks for the best node of a group in a ranking that does not count it.
// The nodes that hold none of the group are in the right order there. Of those
// that do, each that stands before the first of the others is met on the way, and
// none that stands behind it is better.
type search struct {
	view      *View
	ranking   *ranking
	group     *group
	passed    int
	best      int
	bestScore score
}

func (s *search) below(k int) {
	i := s.ranking.winner[k]
	if i < 0 || s.passed > maxPassed {
		return
	}
	score := s.ranking.scores[i]
	s.view.nodes[i].load(s.ranking.requirements, s.group, &score)
	if s.best < 0 || score.less(&s.bestScore) || score == s.bestScore && int(i) < s.best {
		s.best, s.bestScore = int(i), score
	}
	if score.ofOwner == 0 && score.ofWorkload == 0 {
		return
	}
	s.passed++
	// Whoever is below and not this node; on the way to its leaf it wins everywhere.
	for k < s.ranking.leaves {
		left, right := 2*k, 2*k+1
		if s.ranking.winner[left] == i {
			s.below(right)
			k = left
		} else {
			s.below(left)
			k = right
		}
	}
}
