#!/bin/sh
# A Slurm of its own on this machine, for tests: one slurmctld and three slurmd with node names of their own.
#
#   cluster.sh start DIR   starts it, all of it under DIR; then: export SLURM_CONF=DIR/slurm.conf
#   cluster.sh node N DIR  starts node N (1 to 3) again
#   cluster.sh stop DIR    ends it
#
# It installs nothing. It runs as root, without slurmdbd and cgroups; its ports are 26817 to 26820.
set -eu

need() {
    command -v "$1" >/dev/null 2>&1 || {
        echo "cluster.sh: $1 is missing: apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge" >&2
        exit 2
    }
}

configure() {
    rm -rf "$dir" && mkdir -p "$dir/state" "$dir/munge" && chmod 711 "$dir" && chmod 700 "$dir/munge"
    dd if=/dev/urandom of="$dir/munge/key" bs=1024 count=1 2>/dev/null && chmod 600 "$dir/munge/key"
    cat >"$dir/slurm.conf" <<END
ClusterName=bisect
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
SlurmctldPort=26817
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
StateSaveLocation=$dir/state
SlurmdPidFile=$dir/%n.pid
SlurmdLogFile=$dir/%n.log
SlurmdSpoolDir=$dir/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
KillWait=10
MinJobAge=10
SchedulerParameters=sched_interval=1,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=node[1-3] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[26818-26820] CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=1000
PartitionName=main Nodes=node[1-3] Default=YES MaxTime=1:00:00 State=UP OverSubscribe=NO
END
}

daemon() { # as a session of its own, whatever signals our caller gets
    setsid "$@" </dev/null >>"$dir/out.log" 2>&1
}

start() {
    for one in munged slurmctld slurmd sbatch; do need "$one"; done
    [ "$(id -u)" = 0 ] || { echo "cluster.sh: run it as root, in a container for instance" >&2; exit 2; }
    configure
    export SLURM_CONF="$dir/slurm.conf"
    daemon munged --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    daemon slurmctld
    for node in 1 2 3; do daemon slurmd -N "node$node"; done
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%D --states=idle 2>/dev/null | tr -d ' ')" = 3 ] && return
        sleep 0.5
    done
    echo "cluster.sh: the nodes do not come up: see $dir/*.log" >&2
    exit 1
}

stop() {
    for file in "$dir"/node?.pid "$dir/slurmctld.pid" "$dir/munge/pid"; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null || :
    done
}

case "${1:-}" in
    start | stop) dir=${2:?DIR is missing} && "$1" ;;
    node) dir=${3:?DIR is missing} && export SLURM_CONF="$dir/slurm.conf" && daemon slurmd -N "node$2" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
