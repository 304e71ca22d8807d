#!/bin/sh
# A Ray of its own on this machine, for tests: a head without CPUs, and three nodes with names and a CPU of their own.
#
#   cluster.sh start DIR   starts it, all of it under DIR; its dashboard is http://127.0.0.1:28265
#   cluster.sh node N DIR  starts node N (1 to 3), again
#   cluster.sh head DIR    starts the head, again
#   cluster.sh stop DIR    ends it
#
# It installs nothing: RAY names the program, by default the `ray` on the path. DIR has to be short, as there are
# sockets in it. DIR/head.pid and DIR/nodeN.pid name the process that stands for each, and leads its process group.
set -eu

port=26379
dashboard=28265
export RAY_USAGE_STATS_ENABLED=0 RAY_DISABLE_IMPORT_WARNING=1 RAY_AUTH_MODE=disabled

begin() { # NAME ray's arguments: with --block its processes live as long as the one whose id is noted
    name=$1 && shift
    BISECT_NODE_NAME=$name setsid "$ray" start --block --disable-usage-stats --node-name="$name" \
        --object-store-memory=80000000 "$@" </dev/null >>"$dir/$name.log" 2>&1 &
    echo $! >"$dir/$name.pid"
}

answers() { # how many nodes Ray has, as far as it can be asked
    "$python" -c 'import json, sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
print(json.load(urllib.request.urlopen(url, timeout=5))["data"]["result"]["num_after_truncation"])' "$dashboard" 2>/dev/null || echo 0
}

wait_for() { # a number of nodes
    for _ in $(seq 300); do
        [ "$(answers)" -ge "$1" ] && return
        sleep 0.5
    done
    echo "cluster.sh: Ray does not come up; at the end of $name.log:" >&2
    tail -n 5 "$dir/$name.log" >&2
    stop
    exit 1
}

head() {
    begin head --head --node-ip-address=127.0.0.1 --port="$port" --dashboard-port="$dashboard" --num-cpus=0 \
        --temp-dir="$dir/r"
    wait_for 1
}

node() { # one after the other, or they take the same ports; each with an address of its own, as machines have
    before=$(answers)
    begin "node$1" --address="127.0.0.1:$port" --node-ip-address="127.0.0.$(($1 + 1))" --num-cpus=1
    wait_for "$((before + 1))"
}

start() {
    mkdir -p "$dir"
    head
    for number in 1 2 3; do node "$number"; done
}

stop() {
    for file in "$dir"/node?.pid "$dir/head.pid"; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null || :
    done
    for file in "$dir"/node?.pid "$dir/head.pid"; do
        [ -s "$file" ] || continue
        for _ in $(seq 40); do kill -0 "$(cat "$file")" 2>/dev/null || break; sleep 0.25; done
        kill -KILL "-$(cat "$file")" 2>/dev/null || : # what did not end with it
    done
}

case "${1:-}" in
    start | stop | head) dir=${2:?DIR is missing} ;;
    node) dir=${3:?DIR is missing} ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
ray=$(command -v "${RAY:-ray}") || { echo "cluster.sh: no ray: pip install 'ray[default]'" >&2; exit 2; }
python=$(dirname "$ray")/python
"$@"
