package schema

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// Remote is where an outside repository is, taken apart.
type Remote struct {
	Scheme string // file, https or ssh
	User   string // ssh only; "" is git's default
	Host   string // with its port, lower case; "" for file
	Path   string // absolute for file and https; as written for ssh's short form; may be empty
}

// shortSSH is ssh's short form, user@host:path.
var shortSSH = regexp.MustCompile(`^([A-Za-z0-9._][A-Za-z0-9._-]*)@([A-Za-z0-9][A-Za-z0-9.-]*):(.+)$`)

// ParseRemote reads a Source's url: an absolute path or file:///path on the
// master, https://host/path, ssh://user@host/path or user@host:path. Whatever
// else git would take is refused; so are credentials, which would stand in Git.
func ParseRemote(text string) (Remote, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return Remote{}, errors.New("has spaces or control characters")
	}
	if strings.HasPrefix(text, "/") {
		return Remote{Scheme: "file", Path: path.Clean(text)}, nil
	}
	if m := shortSSH.FindStringSubmatch(text); m != nil && !strings.HasPrefix(m[3], "-") {
		return Remote{Scheme: "ssh", User: m[1], Host: strings.ToLower(m[2]), Path: m[3]}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return Remote{}, errors.New("is not a URL")
	}
	r := Remote{Scheme: u.Scheme, User: u.User.Username(), Host: strings.ToLower(u.Host), Path: u.Path}
	_, hasPassword := u.User.Password()
	switch {
	case u.Scheme == "file" && (u.Host != "" || !strings.HasPrefix(u.Path, "/")):
		return r, errors.New("names no absolute path: write file:///path")
	case u.Scheme == "file":
		r.Path = path.Clean(r.Path)
	case u.Scheme != "https" && u.Scheme != "ssh":
		return r, fmt.Errorf("has the scheme %q, which is not followed: write an absolute path, https:// or ssh://", u.Scheme)
	case u.Host == "" || strings.HasPrefix(u.Host, "-") || strings.HasPrefix(u.User.Username(), "-"):
		return r, errors.New("names no host")
	case hasPassword || u.Scheme == "https" && u.User != nil:
		return r, errors.New("holds credentials: name them by auth.secretFile")
	case u.RawQuery != "" || u.Fragment != "":
		return r, errors.New("has a query or a fragment, which no repository has")
	}
	return r, nil
}

// String is the form that git is given.
func (r Remote) String() string {
	switch {
	case r.Scheme == "file":
		return r.Path
	case r.Scheme == "ssh" && r.Path != "" && !strings.HasPrefix(r.Path, "/"):
		return r.User + "@" + r.Host + ":" + r.Path
	}
	u := url.URL{Scheme: r.Scheme, Host: r.Host, Path: r.Path}
	if r.User != "" {
		u.User = url.User(r.User)
	}
	return u.String()
}

// Below reports whether r is at or below base: the same scheme, host and port,
// and base's path or one under it. The user does not count.
func (r Remote) Below(base Remote) bool {
	if r.Scheme != base.Scheme || r.Host != base.Host {
		return false
	}
	mine, its := "/"+strings.Trim(path.Clean("/"+r.Path), "/"), "/"+strings.Trim(path.Clean("/"+base.Path), "/")
	return its == "/" || mine == its || strings.HasPrefix(mine, its+"/")
}
