package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// announceTimeout bounds the wait for the kernel's word after a commit.
const announceTimeout = 5 * time.Second

// listenForCommits hears when the kernel has committed to nftables in the
// thread's network namespace: each call of next is the moment of one commit. What
// is heard ends with the process.
func listenForCommits() (next func() (time.Time, error), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("listen to nftables: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to nftables: %w", err)
	}
	heard := make(chan time.Time, endpointChanges)
	go func() {
		buffer := make([]byte, 1<<20)
		for {
			n, _, err := unix.Recvfrom(fd, buffer, 0)
			at := time.Now()
			if err != nil {
				return
			}
			for range commitsIn(buffer[:n]) {
				heard <- at
			}
		}
	}()
	return func() (time.Time, error) {
		select {
		case at := <-heard:
			return at, nil
		case <-time.After(announceTimeout):
			return time.Time{}, errors.New("the kernel announced no commit")
		}
	}, nil
}

// commitsIn counts the messages that end a commit: each carries a new generation.
func commitsIn(messages []byte) (n int) {
	for len(messages) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(messages))
		if binary.NativeEndian.Uint16(messages[4:]) == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
			n++
		}
		if size < unix.NLMSG_HDRLEN || size > len(messages) {
			return n
		}
		messages = messages[min(len(messages), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return n
}
