#!/usr/bin/env bash
# A scan on several machines that you reach by ssh: run it on the first of them.
#
#   cluster/local.sh
#
# Starts a Ray node here and one on each host, runs the scan, and ends the nodes with it, however it ends:
# a node lives as long as its ssh connection. The same command resumes. The genome, the weights and the store
# lie under the same paths everywhere. README.md, beside this file, tells more.
set -euo pipefail

# Versions that belong together; every machine must have the same Python and Ray.
python=3.12 ray=2.60.0 torch=2.13.0 cuda=13.0

here=192.168.0.10                                        # EDIT this machine's address in the private network
hosts=(192.168.0.11 192.168.0.12)                        # EDIT the others; ssh must need no password
environment=$HOME/tism-scan-venv                         # EDIT the same path on each machine
scan=(
  --genome /data/hg38.fa --weights /data/deepsea.beluga.pth --out /data/scores.zarr  # EDIT
  --tracks 267 --strands both --exclude-chroms '*_alt,*_random,chrUn_*'              # EDIT
)
port=${TISM_SCAN_PORT:-6379}

PATH=$environment/bin:$PATH
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

have=$(python - <<'PYTHON'
import sys, importlib.metadata as m
versions = {"python": "{}.{}".format(*sys.version_info), "ray": m.version("ray"), "torch": m.version("torch")}
print(*(f"{name}={version.partition('+')[0]}" for name, version in versions.items()))
PYTHON
) || { echo "local.sh: $environment has no Python with ray and torch; install tism-scan there" >&2; exit 2; }
if [[ $have != "python=$python ray=$ray torch=$torch" ]]; then
  echo "local.sh: warning: here is $have; tried were python=$python ray=$ray torch=$torch cuda=$cuda" >&2
fi

logs=$(mktemp -d -t tism-scan-ray-XXXXXX)
nodes=()
# shellcheck disable=SC2329  # called by trap
end_nodes() {
  if ((${#nodes[@]})); then
    kill -TERM "${nodes[@]}" 2>/dev/null || true
    wait "${nodes[@]}" 2>/dev/null || true
  fi
  if [[ ${code:-1} == 0 ]]; then rm -rf "$logs"; fi
}
trap 'end_nodes' EXIT

ray start --block --head --node-ip-address="$here" --port="$port" --include-dashboard=false \
  --object-store-memory=200000000 --temp-dir="$logs/r" >"$logs/head.log" 2>&1 &
nodes+=($!)
for ((waited = 0; ; waited++)); do
  if (exec 3<>"/dev/tcp/$here/$port") 2>/dev/null; then break; fi
  if ((waited == 120)) || ! kill -0 "${nodes[0]}" 2>/dev/null; then
    echo "local.sh: Ray's head does not start; see $logs/head.log" >&2
    exit 1
  fi
  sleep 1
done

# The secret goes through the connection's input, where `ps` does not show it. When the input ends, because
# this script does, so does the node.
remote="read -r RAY_AUTH_TOKEN; export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
PATH=$environment/bin:\$PATH
ray start --block --address=$here:$port --object-store-memory=200000000 </dev/null &
cat >/dev/null; kill -TERM \$!; wait"
connections=()
for host in "${hosts[@]}"; do
  exec {input}> >(exec ssh -o BatchMode=yes "$host" "bash -c $(printf %q "$remote")" >"$logs/$host.log" 2>&1)
  printf '%s\n' "$RAY_AUTH_TOKEN" >&"$input"
  connections+=("$input")
done

code=0
tism-scan run "${scan[@]}" --address "$here:$port" || code=$?
for input in "${connections[@]}"; do exec {input}>&-; done
if ((code)); then echo "local.sh: Ray's logs are in $logs" >&2; fi
exit "$code"
