#!/bin/sh
# Builds the shop's images from the Go code beside this file into Podman's
# storage: localhost/shop-{web,api,store}, one tag for each version named.
# Usage: build.sh [VERSION...]   (default: v1 v2)
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- v1 v2
for version in "$@"; do
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$work/$version/" ./web ./api ./store
	for service in web api store; do
		printf 'FROM scratch\nCOPY %s /%s\nENTRYPOINT ["/%s"]\n' "$service" "$service" "$service" >"$work/Containerfile"
		podman build --quiet --file "$work/Containerfile" --tag "localhost/shop-$service:$version" "$work/$version" >/dev/null
		echo "localhost/shop-$service:$version"
	done
done
