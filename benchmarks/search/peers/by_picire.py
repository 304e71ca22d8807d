"""picire, https://github.com/renatahodovan/picire: ddmin as installed, with its own cache of outcomes.

At the start of every iteration it asserts that the set still fails, although the run before has just said so; that one
is answered without a run.
"""

import picire

from peers.repeated import all_culprits


def search(flags, fails, seed):
    def test(config, config_id):
        failed = "assert" in config_id or fails(config)
        return picire.Outcome.FAIL if failed else picire.Outcome.PASS

    return all_culprits(flags, fails, lambda rest: picire.DD(test)(list(rest)))
