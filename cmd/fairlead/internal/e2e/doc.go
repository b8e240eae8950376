// Package e2e proves the whole path on this machine: real binaries, real
// Podman, nftables, etcd and git, a cluster that `fairlead up` makes in a slot
// and a directory of its own. Its tests share one cluster; when they are done,
// `fairlead down` must leave nothing, which is checked from outside: /proc, ip,
// nft and the mount table, without asking Fairlead.
package e2e
