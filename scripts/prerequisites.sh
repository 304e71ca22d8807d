#!/bin/sh
# Checks what pip cannot install, before anything slow begins.
#
#   prerequisites.sh            a Python 3.9 to 3.11 that can make virtual environments
#   prerequisites.sh horovod    the same, and what building horovod from source takes
#
# Prints the Python found, the newest that fits; $PYTHON, where set, is the only candidate. What is missing goes to
# stderr, a line each, with the Debian package that has it; the exit code is then 2.

complain() {
    echo "maskrcnn-bisect: $*" >&2
}

# Prints the version of the interpreter $1 as "3.11"; fails if it does not run (as a pyenv shim may not).
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

find_python() {
    if [ -n "$PYTHON" ]; then set -- "$PYTHON"; else set -- python3.11 python3.10 python3.9 python3 python; fi
    problem="no Python found: apt-get install python3.11 python3.11-venv, or name a Python 3.9, 3.10 or 3.11 with PYTHON=PATH"
    [ -n "$PYTHON" ] && problem="PYTHON=$PYTHON does not run: name a Python 3.9, 3.10 or 3.11"
    nearness=0 # how near the best candidate came, so that the most useful problem is told
    for candidate in "$@"; do
        version=$(version_of "$candidate") || continue
        case $version in
        3.9 | 3.10 | 3.11)
            if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
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
                problem="$candidate is Python $version, but TensorFlow 2.15 needs 3.9, 3.10 or 3.11: apt-get install python3.11 python3.11-venv, or name one with PYTHON=PATH"
            fi
            ;;
        esac
    done
    complain "$problem"
    return 1
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

status=0
find_python || status=2
[ "$1" != horovod ] || check_compiler || status=2
exit $status
