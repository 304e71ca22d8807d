#!/bin/sh
# Succeeds where `make test-slurm` can run: where Slurm is there, or can be installed by root, in three minutes.

missing() {
    for program in munged slurmctld slurmd sbatch; do
        command -v "$program" >/dev/null || { echo "$program"; return; }
    done
}

without() {
    echo "maskrcnn-bisect: no tests on a real Slurm: $1"
    exit 1
}

[ "$(id -u)" = 0 ] || without "they need root, as in a container"
[ -n "$(missing)" ] || exit 0
command -v apt-get >/dev/null || without "$(missing) is missing, and so is apt-get"
echo "installing Slurm"
export DEBIAN_FRONTEND=noninteractive
{
    timeout 60 apt-get update -qq
    timeout 120 apt-get install -y -qq --no-install-recommends slurm-wlm munge
} >/dev/null 2>&1
[ -z "$(missing)" ] || without "$(missing) is missing, and apt-get cannot install it"
