#!/bin/sh
# Tests the tool as it is installed without the training, on each Python in an environment of its own: .venv-core/3.9 ...
#
#   test_core.sh "PYTHON..." [WORDS FOR PYTEST...]    the interpreters, the oldest first
#
# The oldest and the newest Python run all tests. Those between share them out, for what works on both ends seldom breaks
# in the middle; with words for pytest each runs what they choose.

pythons=$1
shift
between=$(($(echo "$pythons" | wc -w) - 2))

# Makes the environment $2 for the interpreter $1, or brings it up to date with what is declared.
install() {
    "$2/bin/python" -c '' 2>/dev/null || "$1" -m venv --clear "$2" || return
    [ -e "$2/installed" ] && [ -z "$(find setup.cfg pyproject.toml -newer "$2/installed")" ] && return
    "$2/bin/python" -m pip --disable-pip-version-check install --quiet --editable '.[test]' && touch "$2/installed"
}

number=0
passed=
failed=
for python in $pythons; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    part=
    [ $number -gt 0 ] && [ $number -le $between ] && [ $# -eq 0 ] && part="--part=$number/$between"
    echo "core tests on Python $version${part:+, part $number of $between}"
    if install "$python" ".venv-core/$version" && ".venv-core/$version/bin/python" -m pytest $part "$@"; then
        passed="$passed${passed:+, }$version"
    else
        failed="$failed${failed:+, }$version"
    fi
    number=$((number + 1))
done
[ -z "$passed" ] || echo "core tests passed on Python $passed"
[ -z "$failed" ] || echo "core tests failed on Python $failed"
[ -z "$failed" ]
