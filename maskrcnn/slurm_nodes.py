"""Ranks on the nodes of a Slurm job: horovodrun starts them by srun, not by ssh. Free of TensorFlow."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from maskrcnn.errors import UserError

# What horovodrun calls as `ssh OPTIONS HOST OPTIONS COMMAND`. A rank sees the GPUs that Slurm gives it on its node, not
# those of the node that horovodrun runs on; and srun is not to take the options of the job for those of a rank.
SSH = r"""#!/bin/sh
while case "$1" in -*) ;; *) [ -z "${host-}" ] ;; esac do
    case "$1" in
        -*) shift 2 ;;
        *) host=$1 && shift ;;
    esac
done
command=$(printf '%s' "$*" | sed 's/ CUDA_VISIBLE_DEVICES=[^ ;]*//g')
for name in $(env | sed -n 's/^\(SLURM_[A-Z_]*\)=.*/\1/p'); do
    case "$name" in
        SLURM_CONF | SLURM_JOB_ID | SLURM_JOBID) ;;
        *) unset "$name" ;;
    esac
done
exec srun --overlap --nodes=1 --ntasks=1 --nodelist="$host" --export=ALL sh -c "$command" </dev/null
"""


def count():
    """How many nodes the Slurm job has that this process is in; 1 outside of one."""
    return int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) if "SLURM_JOB_ID" in os.environ else 1


def spread(np):
    """The nodes of the job with the number of np ranks on each, as "a:8,b:8". Raises UserError."""
    if np < count():
        raise UserError(f"--np {np}: the Slurm job has {count()} nodes; ask for {np} of them, or for more processes.")
    names = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    try:
        nodes = subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"--np {np}: the nodes of the Slurm job are not known: {error}; name them by --hosts."
        ) from None
    each, more = divmod(np, len(nodes))
    return ",".join(f"{node}:{each + (place < more)}" for place, node in enumerate(nodes))


@contextlib.contextmanager
def reached_by_srun(np):
    """In this context horovodrun reaches the nodes by srun, and np ranks share their CPUs."""
    if not shutil.which("srun"):
        raise UserError(f"--np {np}: srun is not on the path of the Slurm job; name the machines by --hosts, for ssh.")
    before = {name: os.environ.get(name) for name in ("PATH", "OMP_NUM_THREADS")}
    cpus = int(os.environ.get("SLURM_CPUS_ON_NODE", os.cpu_count() or 1))
    threads = max(1, cpus // -(-np // count()))
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "ssh")
        program.write_text(SSH)
        program.chmod(0o755)
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
        os.environ["OMP_NUM_THREADS"] = str(min(threads, int(os.environ.get("OMP_NUM_THREADS") or threads)))
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
