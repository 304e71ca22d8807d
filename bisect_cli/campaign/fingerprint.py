"""What a run was computed with: its fingerprint, as the trainer reports it. Pure.

A fingerprint is a dict of short texts, {"code": .., "configuration": .., "data": .., "software": ..} or whatever the
trainer's parts are. "flags" among them is {flag: text} for what matters to a run only where that flag is on, such as a
function that overrides a piece. Runs of equal fingerprints, flags and seeds are the same run. None stands for a
fingerprint that is not known, as of campaigns from before there were any and of trainers that report none: within a
campaign it is taken to be as good as any.
"""

FLAGS = "flags"


def for_flags(fingerprint, flags):
    """The part of a campaign's fingerprint that matters to a run of these flags."""
    if not fingerprint:
        return fingerprint
    return {**fingerprint, FLAGS: {flag: text for flag, text in fingerprint.get(FLAGS, {}).items() if flag in flags}}


def common(fingerprint):
    """The part of a fingerprint that matters to every run."""
    return fingerprint and {part: text for part, text in fingerprint.items() if part != FLAGS}


def differences(first, second):
    """The names of the parts in which two fingerprints differ, those of flags as "what is planted in FLAG"."""
    if first is None or second is None or first == second:
        return ()
    parts = dict.fromkeys([*common(first), *common(second)])
    one, other = first.get(FLAGS, {}), second.get(FLAGS, {})
    return (
        *(part for part in parts if first.get(part) != second.get(part)),
        *(f"what is planted in {flag}" for flag in dict.fromkeys([*one, *other]) if one.get(flag) != other.get(flag)),
    )


def parse(values):
    """A trainer's own words as a fingerprint, None if they are none."""
    if not isinstance(values, dict):
        return None
    flags = values.get(FLAGS) or {}
    parts = {str(part): str(text) for part, text in values.items() if part != FLAGS}
    return {**parts, FLAGS: {str(flag): str(text) for flag, text in flags.items()} if isinstance(flags, dict) else {}}
