package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema"
)

// file is one file of a volume that shows data.
type file struct {
	data []byte
	mode os.FileMode
}

const defaultMode = 0o644

// content gives a data volume's files by path, and whether any of it is secret.
func content(p *corev1.Pod, vol *corev1.Volume, data pod.Data, at pod.Place) (files map[string]file, secret bool, err error) {
	sources, ok := schema.VolumeSources(vol)
	if !ok {
		return nil, false, errors.New("this kind of volume, or of source in it, is not supported")
	}
	files = map[string]file{}
	for i := range sources {
		s := &sources[i]
		if s.Kind == "" {
			err = fields(files, p, s.Fields, s.Mode, at)
		} else {
			secret = secret || s.Kind == schema.KindSecret
			err = keys(files, p, s, data)
		}
		if err != nil {
			return nil, false, err
		}
	}
	return files, secret, nil
}

// keys adds the keys of a ConfigMap or Secret: all, or the items named.
func keys(files map[string]file, p *corev1.Pod, s *schema.VolumeSource, data pod.Data) error {
	values, err := data.Of(p, s.Reference)
	if err != nil || values == nil {
		return err
	}
	if len(s.Items) == 0 {
		for k, v := range values {
			files[k] = file{v, modeOf(s.Mode, nil)}
		}
		return nil
	}
	for _, item := range s.Items {
		v, ok := values[item.Key]
		switch {
		case !ok && s.Optional:
			continue
		case !ok:
			return pod.MissingError(pod.Named(p, s.Reference) + " has no key " + item.Key)
		}
		if err := inside(item.Path); err != nil {
			return err
		}
		files[filepath.Clean(item.Path)] = file{v, modeOf(s.Mode, item.Mode)}
	}
	return nil
}

func fields(files map[string]file, p *corev1.Pod, items []corev1.DownwardAPIVolumeFile, mode *int32, at pod.Place) error {
	for _, item := range items {
		value, err := shown(p, &item, at)
		if err != nil {
			return fmt.Errorf("downward API file %s: %w", item.Path, err)
		}
		if err := inside(item.Path); err != nil {
			return err
		}
		files[filepath.Clean(item.Path)] = file{[]byte(value), modeOf(mode, item.Mode)}
	}
	return nil
}

// shown is what one file shows of its pod.
func shown(p *corev1.Pod, item *corev1.DownwardAPIVolumeFile, at pod.Place) (string, error) {
	switch {
	case item.FieldRef != nil:
		return pod.Field(p, item.FieldRef.FieldPath, at)
	case item.ResourceFieldRef != nil:
		return pod.Amount(p, nil, item.ResourceFieldRef, at)
	}
	return "", errors.New("it shows nothing that is supported")
}

func inside(path string) error {
	if path == "" || filepath.IsAbs(path) || slices.Contains(strings.Split(path, "/"), "..") || strings.HasPrefix(path, "..") {
		return fmt.Errorf("path %q leaves the volume", path)
	}
	return nil
}

func modeOf(volume, item *int32) os.FileMode {
	switch {
	case item != nil:
		return os.FileMode(*item) & fs.ModePerm
	case volume != nil:
		return os.FileMode(*volume) & fs.ModePerm
	}
	return defaultMode
}

// dataLink points at the directory with the version in force; what users see
// are links through it. The layout is the one Kubernetes' users know.
const dataLink = "..data"

// publish makes a volume show files: a new version is written beside the old one and
// one rename of a link switches all of it. Content that is shown already is not
// written again. A container that may remount its volume can write there: no step
// leaves the open directory or follows a link.
//
// mounts are the paths in it at which something else is mounted.
func (v *Volumes) publish(uid types.UID, volume string, files map[string]file, mounts []string, group int) error {
	dir, err := v.openOwn(uid, volume)
	if err != nil {
		return err
	}
	defer dir.Close()
	version := ".." + versionOf(files, group)
	shown, err := dir.Readlink(dataLink)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if shown != version {
		if err := v.write(dir, version, files, group); err != nil {
			return err
		}
		if err := link(dir, version, dataLink); err != nil {
			return err
		}
	}
	v.before("link files")
	if err := userLinks(dir, files, mounts); err != nil {
		return err
	}
	v.before("remove old versions")
	return dropOld(dir, version)
}

// openOwn opens a volume that is the agent's own to fill, made if need be.
func (v *Volumes) openOwn(uid types.UID, volume string) (*os.Root, error) {
	if err := os.MkdirAll(v.dir(uid), 0o755); err != nil {
		return nil, err
	}
	all, err := os.OpenRoot(v.dir(uid))
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if err := all.MkdirAll(volume, 0o755); err != nil {
		return nil, err
	}
	return all.OpenRoot(volume)
}

// versionOf identifies a content: equal files give the equal directory name.
func versionOf(files map[string]file, group int) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", group)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q %o %d\n", path, files[path].mode, len(files[path].data))
		h.Write(files[path].data)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// write makes a version whole. A half-written one of an earlier crash is begun anew.
func (v *Volumes) write(dir *os.Root, version string, files map[string]file, group int) error {
	if err := dir.RemoveAll(version); err != nil {
		return err
	}
	if err := dir.Mkdir(version, 0o755); err != nil {
		return err
	}
	in, err := dir.OpenRoot(version)
	if err != nil {
		return err
	}
	defer in.Close()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		v.before("write file")
		if err := in.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := writeFile(in, path, files[path], group); err != nil {
			return err
		}
	}
	return nil
}

// writeFile makes a file that is not there yet.
func writeFile(dir *os.Root, path string, content file, group int) error {
	mode := content.mode
	if group >= 0 {
		mode |= mode & 0o400 >> 3 // the group reads what the owner reads
	}
	f, err := dir.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content.data)
	if err == nil {
		err = f.Chown(-1, group)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	return errors.Join(err, f.Close())
}

// userLinks makes what users see: a link per file or directory of the version, none
// else. A directory below which something is mounted is one itself, with the links in
// it, so that no new version takes a mount from those that run.
func userLinks(dir *os.Root, files map[string]file, mounts []string) error {
	dirs := realDirs(files, mounts)
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if err := makeReal(dir, name); err != nil {
			return err
		}
	}
	kept := maps.Clone(dirs)
	for _, name := range mounts {
		kept[name] = true
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		name := linkTo(file, dirs)
		kept[name] = true
		if err := link(dir, strings.Repeat("../", strings.Count(name, "/"))+dataLink+"/"+name, name); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		if err := dropOthers(dir, name, kept); err != nil {
			return err
		}
	}
	return nil
}

// realDirs are the directories of a volume that are none of a version's: its root, and
// those in which something is mounted beside files.
func realDirs(files map[string]file, mounts []string) map[string]bool {
	dirs := map[string]bool{".": true}
	for _, m := range mounts {
		for d := filepath.Dir(m); d != "."; d = filepath.Dir(d) {
			dirs[d] = true
		}
		for f := range files {
			if strings.HasPrefix(f, m+"/") {
				dirs[m] = true
			}
		}
	}
	for f := range files {
		delete(dirs, f)
	}
	return dirs
}

// linkTo is the shortest part of a file's path that is none of the directories.
func linkTo(file string, dirs map[string]bool) string {
	for i, c := range file {
		if c == '/' && !dirs[file[:i]] {
			return file[:i]
		}
	}
	return file
}

func makeReal(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	if err == nil && info.IsDir() {
		return nil
	}
	if err := dir.RemoveAll(name); err != nil {
		return err
	}
	return dir.Mkdir(name, 0o755)
}

// dropOthers removes from a directory what is not kept. Names that begin with two dots
// are the volume's own.
func dropOthers(dir *os.Root, name string, kept map[string]bool) error {
	entries, err := list(dir, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(name, e.Name())
		if !kept[path] && !strings.HasPrefix(path, "..") {
			if err := dir.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// link makes name a link to target at once, in place of whatever is there.
func link(dir *os.Root, target, name string) error {
	if got, err := dir.Readlink(name); err == nil && got == target {
		return nil
	}
	if err := dir.RemoveAll(newLink); err != nil {
		return err
	}
	if err := dir.Symlink(target, newLink); err != nil {
		return err
	}
	err := dir.Rename(newLink, name)
	if err != nil { // a directory is in its place, such as a start made for a subPath
		if err = dir.RemoveAll(name); err == nil {
			err = dir.Rename(newLink, name)
		}
	}
	return err
}

// newLink is a link that is about to take its place.
const newLink = "..data_new"

// dropOld removes versions that are not shown.
func dropOld(dir *os.Root, shown string) error {
	entries, err := list(dir, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..") && e.Name() != shown {
			if err := dir.RemoveAll(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func list(dir *os.Root, name string) ([]os.DirEntry, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}
