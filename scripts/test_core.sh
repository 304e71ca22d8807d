#!/bin/sh
# Tests the tool as it is installed without the training, on each Python in an environment of its own: .venv-core/3.9 ...
#
#   test_core.sh "PYTHON..." [WORDS FOR PYTEST...]    the interpreters, the oldest first
#
# The oldest Python runs all tests. The others share them out, for what works on the oldest, and with the training on
# another (`make test`), seldom breaks elsewhere; with words for pytest each runs what they choose. The tests mostly wait
# for processes, so two Pythons go at a time, more would make them race; the output of each comes when it has ended.

pythons=$1
shift
others=$(($(echo "$pythons" | wc -w) - 1))
mkdir -p .venv-core
rm -f .venv-core/*.log .venv-core/*.passed

# Makes the environment $2 for the interpreter $1, or brings it up to date with what is declared.
install() {
    "$2/bin/python" -c '' 2>/dev/null || "$1" -m venv --clear "$2" || return
    [ -e "$2/installed" ] && [ -z "$(find setup.cfg pyproject.toml -newer "$2/installed")" ] && return
    "$2/bin/python" -m pip --disable-pip-version-check install --quiet --editable '.[test]' && touch "$2/installed"
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# Tests with the interpreter $1; the other words are for pytest.
run() {
    python=$1
    version=$(version_of "$python")
    shift
    {
        echo "core tests on Python $version $*"
        ".venv-core/$version/bin/python" -m pytest "$@" && touch ".venv-core/$version.passed"
    } >".venv-core/$version.log" 2>&1
    cat ".venv-core/$version.log"
}

# One after the other: each writes what it installs into the tree, too.
for python in $pythons; do
    install "$python" ".venv-core/$(version_of "$python")" || exit 1
done
echo "core tests on $(for python in $pythons; do version_of "$python"; done | xargs echo): two at a time, minutes each"
number=0
for python in $pythons; do
    if [ $number -eq 0 ]; then
        run "$python" "$@" &
    elif [ $# -eq 0 ]; then
        run "$python" "--part=$number/$others"
    else
        run "$python" "$@"
    fi
    number=$((number + 1))
done
wait

passed=
failed=
for python in $pythons; do
    version=$(version_of "$python")
    if [ -e ".venv-core/$version.passed" ]; then
        passed="$passed${passed:+, }$version"
    else
        failed="$failed${failed:+, }$version"
    fi
done
[ -z "$passed" ] || echo "core tests passed on Python $passed"
[ -z "$failed" ] || echo "core tests failed on Python $failed"
[ -z "$failed" ]
