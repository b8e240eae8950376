package gitsource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"fairlead/schema"
)

// Credentials open one or more outside repositories. They stand in a file of the
// master's that only its user may read, as strict YAML:
//
//	url: https://git.example.org/team/   # good for repositories at or below this, no other
//	token: glpat-...                     # https: a token, or
//	username: fairlead                   #        a user and
//	password: ...                        #        a password
//	ca: |                                # https: PEM of the authorities to trust instead of the system's
//	  -----BEGIN CERTIFICATE-----
//	privateKey: |                        # ssh: the key, without passphrase, and
//	  -----BEGIN OPENSSH PRIVATE KEY-----
//	knownHosts: |                        #      the host's keys, as in known_hosts
//	  git.example.org ssh-ed25519 AAAA...
type Credentials struct {
	URL        string `json:"url"`
	Token      string `json:"token,omitempty"`
	Username   string `json:"username,omitempty"`
	Password   string `json:"password,omitempty"`
	CA         string `json:"ca,omitempty"`
	PrivateKey string `json:"privateKey,omitempty"`
	KnownHosts string `json:"knownHosts,omitempty"`
}

// maxCredentials bounds the file.
const maxCredentials = 256 << 10

// tokenUser stands before a token: the hosts there are take any name.
const tokenUser = "git"

// readCredentials reads the file for one remote. Errors never repeat what is in
// it.
func readCredentials(path string, remote schema.Remote) (Credentials, error) {
	var c Credentials
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("there is no file %s", path)
	}
	if err != nil {
		return c, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return c, err
	case !info.Mode().IsRegular():
		return c, fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return c, fmt.Errorf("%s may be read by others: chmod 600 it", path)
	case info.Size() > maxCredentials:
		return c, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), maxCredentials)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err != nil {
		return c, err
	}
	if yaml.UnmarshalStrict(data, &c) != nil {
		return c, fmt.Errorf("%s is not YAML of the form {url, token | username, password | privateKey, knownHosts, ca}", path)
	}
	if err := c.check(remote); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Credentials) check(remote schema.Remote) error {
	base, err := schema.ParseRemote(c.URL)
	if c.URL == "" || err != nil {
		return errors.New("url must say what the credentials are for")
	}
	if !remote.Below(base) {
		return fmt.Errorf("its credentials are for %s, not for %s", base, remote)
	}
	if c.Token != "" {
		if c.Username != "" || c.Password != "" {
			return errors.New("token stands for username and password: write one or the other")
		}
		c.Username, c.Password = tokenUser, c.Token
	}
	switch {
	case strings.ContainsAny(c.Username+c.Password, "\x00\r\n"):
		return errors.New("username, password and token are one line each")
	case (c.Username == "") != (c.Password == ""):
		return errors.New("username and password belong together")
	case remote.Scheme == "ssh" && (c.PrivateKey == "" || c.KnownHosts == ""):
		return errors.New("ssh needs privateKey and knownHosts")
	}
	return nil
}
