#!/bin/sh
# Checks what pip cannot install, before anything slow begins.
#
#   prerequisites.sh            a Python 3.9 to 3.11, for the training, that can make virtual environments
#   prerequisites.sh horovod    the same, and what building horovod from source takes
#   prerequisites.sh core       every Python 3.9 to 3.13 that can make virtual environments, for the tool alone
#
# Prints the Python found, the newest that fits, or with `core` each of them, the oldest first; $PYTHON, where set, is
# the only candidate, or with `core` a list of them. What is missing goes to stderr, a line each, with the Debian package
# that has it; the exit code is then 2.

TRAINING="3.9, 3.10 or 3.11"
TOOL="3.9, 3.10, 3.11, 3.12 or 3.13"

complain() {
    echo "maskrcnn-bisect: $*" >&2
}

# Prints the version of the interpreter $1 as "3.11"; fails if it does not run.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Prints an interpreter that runs: $1 or, where that is a shim of pyenv's for a version that is not chosen, the newest
# behind it.
running() {
    if version_of "$1" >/dev/null; then
        echo "$1"
    else
        behind=
        for behind in $(pyenv whence --path "$1" 2>/dev/null); do :; done
        [ -n "$behind" ] && echo "$behind"
    fi
}

makes_environments() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

find_python() {
    if [ -n "$PYTHON" ]; then set -- "$PYTHON"; else set -- python3.11 python3.10 python3.9 python3 python; fi
    problem="no Python found: apt-get install python3.11 python3.11-venv, or name a Python $TRAINING with PYTHON=PATH"
    [ -n "$PYTHON" ] && problem="PYTHON=$PYTHON does not run: name a Python $TRAINING"
    nearness=0 # how near the best candidate came, so that the most useful problem is said
    for name in "$@"; do
        candidate=$(running "$name") || continue
        version=$(version_of "$candidate")
        case $version in
        3.9 | 3.10 | 3.11)
            if makes_environments "$candidate"; then
                echo "$candidate"
                return
            fi
            if [ $nearness -lt 2 ]; then
                nearness=2
                problem="$candidate cannot make virtual environments: apt-get install python$version-venv"
            fi
            ;;
        *)
            if [ $nearness -lt 1 ]; then
                nearness=1
                problem="$candidate is Python $version, but TensorFlow 2.15 needs $TRAINING: apt-get install python3.11 python3.11-venv, or name one with PYTHON=PATH"
            fi
            ;;
        esac
    done
    complain "$problem"
    return 1
}

# Prints the interpreter $1 as one for the tool alone, or complains.
check_tool_python() {
    case $(version_of "$1") in
    3.9 | 3.10 | 3.11 | 3.12 | 3.13) ;;
    *)
        complain "$1 is Python $(version_of "$1"), but the tool is for Python $TOOL"
        return 1
        ;;
    esac
    makes_environments "$1" || {
        complain "$1 cannot make virtual environments: apt-get install python$(version_of "$1")-venv"
        return 1
    }
    echo "$1"
}

# Of those that were named each has to do; of those on the machine, one.
find_tool_pythons() {
    status=0
    if [ -n "$PYTHON" ]; then
        for name in $PYTHON; do
            if candidate=$(running "$name"); then
                check_tool_python "$candidate" || status=2
            else
                complain "$name does not run: name a Python $TOOL"
                status=2
            fi
        done
        return $status
    fi
    found=
    for name in python3.9 python3.10 python3.11 python3.12 python3.13; do
        candidate=$(running "$name") && check_tool_python "$candidate" && found=yes
    done
    [ -n "$found" ] && return
    complain "no Python found: apt-get install python3 python3-venv, or name a Python $TOOL with CORE_PYTHONS=PATH"
    return 2
}

# Succeeds if one of the commands is on PATH.
any_of() {
    for name in "$@"; do
        command -v "$name" >/dev/null 2>&1 && return
    done
    return 1
}

check_compiler() {
    missing=0
    any_of ${CXX:-c++ g++ clang++} || {
        complain "no C++ compiler (${CXX:-c++}), which building horovod takes: apt-get install g++"
        missing=1
    }
    any_of cmake || {
        complain "no cmake, which building horovod takes: apt-get install cmake"
        missing=1
    }
    any_of make gmake || {
        complain "no make, which building horovod takes: apt-get install make"
        missing=1
    }
    return $missing
}

if [ "$1" = core ]; then
    find_tool_pythons
    exit
fi
status=0
find_python || status=2
[ "$1" != horovod ] || check_compiler || status=2
exit $status
