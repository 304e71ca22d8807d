#!/bin/sh
# Tests the tool as it is installed without the training, on each Python in an environment of its own: .venv-core/3.9 ...
#
#   test_core.sh "PYTHON..." [WORDS FOR PYTEST...]    the interpreters, the oldest first
#
# The oldest Python runs all tests, in two halves. Each of the others runs an eighth, another one each, for what works on
# the oldest, and with the training on another (`make test`), seldom breaks elsewhere; with words for pytest each runs
# what they choose. The tests mostly wait for processes, so two go at a time, more would make them race; the output of
# each comes when it has ended.

pythons=$1
shift
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

# Tests with the Python of version $1, the part $2 as 1/8, or all; the other words are for pytest.
run() {
    version=$1
    part=$2
    shift 2
    [ "$part" = all ] || set -- "--part=$part" "$@"
    log=".venv-core/$version-$(echo "$part" | tr / _)"
    {
        echo "core tests on Python $version $*"
        ".venv-core/$version/bin/python" -m pytest "$@" && touch "$log.passed"
    } >"$log.log" 2>&1
    cat "$log.log"
}

# Runs what $1 lists, VERSION:PART each, one after the other; the other words are for pytest.
lane() {
    list=$1
    shift
    for each in $list; do
        run "${each%:*}" "${each#*:}" "$@"
    done
}

# One after the other: each writes what it installs into the tree, too.
versions=
for python in $pythons; do
    version=$(version_of "$python")
    install "$python" ".venv-core/$version" || exit 1
    versions="$versions $version"
done

one= other= number=0
for version in $versions; do
    if [ $# -eq 0 ] && [ $number -eq 0 ]; then
        one="$version:1/2" other="$version:2/2"
    else
        next=$version:all
        [ $# -gt 0 ] || next="$version:$number/8"
        if [ $((number % 2)) -eq 0 ]; then one="$one $next"; else other="$other $next"; fi
    fi
    number=$((number + 1))
done
echo "core tests on Python$versions: two at a time, minutes each"
lane "$one" "$@" &
lane "$other" "$@"
wait

status=0
for version in $versions; do
    parts=$(echo "$one $other" | tr ' ' '\n' | grep -c "^$version:")
    if [ "$(ls ".venv-core/$version"-*.passed 2>/dev/null | wc -l)" -eq "$parts" ]; then
        echo "core tests passed on Python $version"
    else
        echo "core tests failed on Python $version"
        status=1
    fi
done
exit $status
