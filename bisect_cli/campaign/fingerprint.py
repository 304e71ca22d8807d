"""What a run was computed with, as a trainer tells it: its key. Pure.

A key is a dict of short texts, {"code": .., "configuration": .., "data": .., "software": ..} or whatever the trainer's
parts are. "flags" among them is {flag: text} for what matters to a run only where that flag is on, such as a planted
function. Runs of equal keys, flags and seeds are the same run. None stands for a key that is not known, as of campaigns
from before there were keys and of trainers that tell none: within a campaign it is taken to be as good as any.
"""

FLAGS = "flags"


def of_run(key, flags):
    """The part of a campaign's key that matters to a run of these flags."""
    return key and {**key, FLAGS: {flag: text for flag, text in key.get(FLAGS, {}).items() if flag in flags}}


def base(key):
    """The part of a key that matters to every run."""
    return key and {part: text for part, text in key.items() if part != FLAGS}


def differences(first, second):
    """The names of the parts in which two keys differ, those of flags as "what is planted in FLAG"."""
    if first is None or second is None or first == second:
        return ()
    parts = dict.fromkeys([*base(first), *base(second)])
    one, other = first.get(FLAGS, {}), second.get(FLAGS, {})
    return (
        *(part for part in parts if first.get(part) != second.get(part)),
        *(f"what is planted in {flag}" for flag in dict.fromkeys([*one, *other]) if one.get(flag) != other.get(flag)),
    )
