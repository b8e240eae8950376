// Package e2e proves the whole path on this machine: real binaries, real
// Podman, nftables, etcd and git, clusters that `fairlead up` makes, each in a
// slot and a directory of its own. Each row of TestClusters has a cluster; when
// it is done, `fairlead down` must leave nothing, which is checked from outside:
// /proc, ip, nft and the mount table, without asking Fairlead.
package e2e
