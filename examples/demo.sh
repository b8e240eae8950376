#!/bin/sh
# Shows Fairlead at work on this machine: a cluster of three nodes, examples/shop
# deployed by git push, a service called from another node's pod and from the
# host. Can be run again. Called by `just demo`, which builds first.
set -eu
cd "$(dirname "$0")/.."

fairlead=bin/fairlead
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
field() { awk -v name="$1" '$1 == name { print $2 }' "$work/up"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "A cluster: a master and three nodes, each with its own network and Podman"
$fairlead up | tee "$work/up"
remote=$(field git)
KUBECONFIG=$(field kubeconfig)
export KUBECONFIG

say "Deploy examples/shop by git push"
git clone --quiet "$remote" "$work/shop" 2>/dev/null
git -C "$work/shop" symbolic-ref HEAD refs/heads/main
find "$work/shop" -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} +
cp examples/shop/*.yaml "$work/shop/"
git -C "$work/shop" add --all
if git -C "$work/shop" -c user.name=demo -c user.email=demo@example.invalid commit --quiet -m "shop: deploy" 2>/dev/null >/dev/null; then
	git -C "$work/shop" push -o wait origin HEAD:main
else
	echo "already deployed"
	$fairlead status --wait
fi

say "What runs, as any kubectl sees it"
kubectl get pods -n shop -o wide

# The process of a pod's container, found by the pod's cgroup: not the monitor,
# which stays in its node's network.
process_of() {
	for directory in /proc/[0-9]*; do
		if grep -qs "/pod$1" "$directory/cgroup" && [ -e "$directory/root/web" ] && ! [ -e "$directory/root/etc/debian_version" ]; then
			echo "${directory#/proc/}"
			return
		fi
	done
}

say "From a web pod: http://api.shop.svc.cluster.local, spread over the api pods of all nodes"
kubectl get pods -n shop -l app=web -o jsonpath='{range .items[*]}{.metadata.uid} {.metadata.name} {.spec.nodeName}{"\n"}{end}' >"$work/web"
read -r uid pod node <"$work/web"
echo "from pod $pod on $node:"
process=$(process_of "$uid")
for _ in 1 2 3 4 5 6; do
	nsenter --target "$process" --net --mount -- /web -get http://api.shop.svc.cluster.local
done

say "From the host, through the NodePort of every node"
for address in $(kubectl get nodes -o jsonpath='{.items[*].status.addresses[?(@.type=="InternalIP")].address}'); do
	echo "http://$address:30080"
	curl --silent --show-error --fail --max-time 10 "http://$address:30080/"
	echo
done

say "Try next"
cat <<NEXT
  git clone $remote shop && cd shop   # change a greeting or an image tag to v2, commit
  git push -o wait origin HEAD:main   # watch it roll out
  $PWD/bin/fairlead plan .            # what a change would do, before you push it
  $PWD/bin/fairlead status
  KUBECONFIG=$KUBECONFIG kubectl get pods -A -w
  $PWD/bin/fairlead down              # stop it all; the data stay (--purge removes them)
NEXT
