package nodeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Core is one life of an agent without its goroutines: the machine, which is the pure
// step and decides, and the files that outlive it, which Core reads and writes. Agent
// drives it with the clock, the simulation with a clock of its own. Inputs come through
// its methods with the time they happened; Act then tells what to do. One goroutine owns
// it.
//
// What follows from an input is on disk before Act hands out anything to do
// about it: whoever dies in between must not orphan a container.
type Core struct {
	cfg     Config
	log     *logrus.Entry
	dirs    podDirs
	disk    *workFile
	machine *machine
	unsaved *Update // work that is not on disk yet
}

// NetworkState is what the node's network should be. The zero value is that of
// a node which the master has not registered.
type NetworkState struct {
	Work      *wire.Work
	HostPorts []pod.HostPort

	tables uint64
}

// Todo is what Act asks its caller to do.
type Todo struct {
	Network *NetworkState // to program; InForce answers. A newer one takes its place.
	Tasks   []Task        // each to an Executor, side by side; Done answers each step, Finished the whole
	Pulls   []Task        // the same, but they may take long and no Finished is awaited
	Hooks   []Hook        // to run beside; Hooked answers
	Report  bool          // there is something to tell the master
	List    bool          // list what truly runs at once: Listing, then Listed
	Wake    time.Time     // when to act again at the latest; zero: not before an input
}

// Attended is a container that runs: its death is to be waited for, and the
// probes of its spec run.
type Attended struct {
	Pod       types.UID
	ID        string
	IP        string
	Spec      *corev1.Container // nil for one that is not wanted, or is to be asked nothing yet
	StartedAt time.Time
	Started   bool // its startup probe has passed
}

// OpenCore reads what an earlier life left in cfg.Dir. Adopt comes next.
func OpenCore(cfg Config) (*Core, error) {
	cfg = cfg.withDefaults()
	c := &Core{cfg: cfg, log: cfg.Log, dirs: podDirs(PodsDir(cfg.Dir))}
	if err := os.MkdirAll(string(c.dirs), 0o700); err != nil {
		return nil, fmt.Errorf("agent directory: %w", err)
	}
	addresses, err := loadAddresses(c.addressFile())
	if err != nil {
		return nil, err
	}
	c.machine = newMachine(cfg.Node, cfg.NodeIP, cfg.Info.BootID, addresses)
	c.machine.allocatable = cfg.Allocatable
	c.disk, err = openWorkFile(filepath.Join(cfg.Dir, "work"), filepath.Join(cfg.Dir, "pki", "work.key"))
	return c, err
}

func (c *Core) addressFile() string { return filepath.Join(c.cfg.Dir, "addresses") }

// Adopt takes over what runs, by the runtime's lists, and the work on disk,
// which it returns; the zero Update if there is none that can be used.
func (c *Core) Adopt(found []pod.Found, images []pod.Image, now time.Time) (Update, error) {
	records, err := c.dirs.loadRecords()
	if err != nil {
		return Update{}, err
	}
	sandboxes, err := c.cfg.Network.Sandboxes()
	if err != nil {
		return Update{}, fmt.Errorf("list sandboxes: %w", err)
	}
	c.TakeImages(images)
	c.machine.adopt(records, found, sandboxes, now)
	last := Update{}
	last.Version, last.Items, err = c.disk.load()
	if err == nil && last.Items != nil {
		last.Work, err = wire.Join(last.Items)
	}
	if err != nil {
		// The master has it still; until it answers, what runs is left as it is.
		c.log.WithError(err).Warn("the work on disk cannot be used")
		return Update{}, nil
	}
	if last.Work != nil {
		last.Changed = everyFamily
		c.machine.take(last, now)
	}
	c.log.WithFields(logrus.Fields{"pods": len(records), "containers": len(found), "workVersion": last.Version}).Info("agent started")
	return last, nil
}

// Take takes over a new work.
func (c *Core) Take(u Update, now time.Time) {
	if u.Work == nil {
		return
	}
	c.unsaved = &u
	if c.machine.take(u, now) {
		c.saveWork()
	}
}

func (c *Core) saveWork() {
	if c.unsaved == nil {
		return
	}
	if err := c.disk.save(c.unsaved.Version, c.unsaved.Items); err != nil {
		c.log.WithError(err).Error("the work could not be kept on disk")
		return // tried again with the next tables
	}
	c.unsaved = nil
}

// TakeImages fills the report's list and the references known to be present.
func (c *Core) TakeImages(images []pod.Image) { c.machine.takeImages(images) }

// Act decides, keeps on disk what must be there before anything is done, and
// tells what to do.
func (c *Core) Act(now time.Time) Todo {
	c.hear()
	fx := c.machine.step(now)
	do := Todo{Network: c.machine.network(), Tasks: fx.tasks, Pulls: fx.pulls, Hooks: fx.hooks, Report: fx.changed, List: fx.list, Wake: fx.wake}
	if fx.saveAddresses {
		if err := c.machine.addresses.save(c.addressFile()); err != nil {
			c.log.WithError(err).Error("pod addresses could not be kept on disk")
		}
	}
	for _, o := range fx.records {
		if err := c.dirs.saveRecord(o); err != nil {
			c.log.WithError(err).WithField("pod", o.UID).Error("a pod's record could not be kept on disk")
		}
	}
	return do
}

// InForce notes that a network state is programmed. The caller reports.
func (c *Core) InForce(s NetworkState) {
	c.machine.inForce(s.tables)
	c.saveWork()
}

// Done takes over how a step of a task ended.
func (c *Core) Done(r Result) {
	entry := c.log.WithFields(logrus.Fields{"pod": r.op.Pod, "container": r.op.Container, "reason": r.op.Reason})
	if r.err != nil {
		entry.WithError(r.err).Warn(string(r.op.Kind))
	} else {
		entry.Debug(string(r.op.Kind))
	}
	c.machine.done(r)
}

// Finished takes a pod back from its task.
func (c *Core) Finished(t Task) { c.machine.finished(t.Pod) }

// Attended lists the containers that run, in no order.
func (c *Core) Attended() []Attended { return c.machine.attended() }

// Exited notes the death of an attended container.
func (c *Core) Exited(uid types.UID, id string, exit pod.Exit) { c.machine.exited(uid, id, exit) }

// Hooked notes how a hook ended; failed tells why it failed, "" for one that did not.
func (c *Core) Hooked(uid types.UID, id string, kind schema.HookKind, failed string, now time.Time) {
	c.machine.hooked(uid, id, kind, failed, now)
}

// Probed notes what a probe decided; message tells why it failed.
func (c *Core) Probed(uid types.UID, id string, kind pod.ProbeKind, v pod.ProbeResult, message string) {
	c.machine.probed(uid, id, kind, v, message)
}

// Unhealthy notes one failed probe, decided or not.
func (c *Core) Unhealthy(uid types.UID, id string, kind pod.ProbeKind, message string, now time.Time) {
	c.machine.unhealthy(uid, id, kind, message, now)
}

// Ambiguous notes one probe that passed and may not have asked what was meant.
func (c *Core) Ambiguous(uid types.UID, id string, kind pod.ProbeKind, message string, now time.Time) {
	c.machine.ambiguous(uid, id, kind, message, now)
}

// Listing marks the moment at which a listing of what runs begins.
type Listing map[types.UID]uint64

// Listing begins a listing; Listed ends it.
func (c *Core) Listing() Listing { return c.machine.listing() }

// Listed corrects what is believed by what the runtime lists. A pod of which
// anything became known since the listing began is left for the next one.
func (c *Core) Listed(l Listing, found []pod.Found, now time.Time) {
	c.machine.listed(found, l, now)
}

// Refused notes that a network state could not be programmed. The caller tries on.
func (c *Core) Refused(err error, now time.Time) { c.machine.problem.refused(err, now) }

// Unlisted notes that the runtime did not list what runs. The caller tries on.
func (c *Core) Unlisted(err error, now time.Time) { c.machine.problem.unlisted(err, now) }

// Checked notes what the machine lacks to run containers, "" for nothing, and reports
// whether that is news.
func (c *Core) Checked(lacks string) (news bool) { return c.machine.problem.checked(lacks) }

// Report tells the node as it is; number is that after the last event in it.
func (c *Core) Report() (r *wire.Report, number uint64) {
	r = c.cfg.words()
	return r, c.machine.report(r, c.tailLines)
}

// Heard notes that the master took a report, whose number it is. It tells
// whether there is more to say at once.
func (c *Core) Heard(number uint64, now time.Time) (more bool) {
	return c.machine.reportHeard(number, now)
}
