"""What `start --dry-run` prints: a Forecast as plain lines."""

from bisect_cli.cli import screen
from bisect_cli.report.lines import describe
from bisect_cli.report.numbers import count, duration, number


def show(forecast, parity):
    """Prints a Forecast. parity: whether it would come first."""
    for line in lines(forecast, parity):
        screen.say(line)


def lines(forecast, parity):
    """A Forecast, line by line."""
    settings = forecast.state.settings
    for event, state in forecast.steps:
        line = describe(event, state, None)
        if line:
            yield line
    yield from _scale(forecast)
    if parity:
        yield "Before any run, parity would compare the implementations of each flag, for the order in which to try."
    if forecast.first_look:
        yield (
            f"Runs would be evaluated at step {forecast.first_look} too, and stopped there if that settles their "
            "verdict."
        )
    yield "First would run:"
    for subset, runs in forecast.first:
        yield f"  {settings.label(subset)}: {count(runs, 'run')}"
    most = forecast.most
    limit = (
        f", and --max-runs stops it at {forecast.max_runs}" if forecast.max_runs and forecast.max_runs < most else ""
    )
    order = " (parity may make it a few more or less)" if parity else ""
    imported = ", those imported among them" if forecast.imports else ""
    yield (
        f"{forecast.fewest} runs if nothing breaks; at most {most} for up to two culprits if every run is clear{order}"
        f"{limit}{imported}."
    )
    if forecast.seconds:
        longest_runs = min(most, forecast.max_runs or most)
        least, longest = (duration(forecast.duration(runs)) for runs in (forecast.fewest, longest_runs))
        each = duration(forecast.duration(1))
        yield f"About {least} to {longest}, {forecast.slots} at once, at {each} a run as earlier ones took."
    else:
        yield "How long is not known until a first run with these options has finished."


def _scale(forecast):
    """What is taken to be noise, and what drops are looked for."""
    settings = forecast.state.settings
    known = {name: value for name, value in forecast.noise.items() if value is not None}
    if known:
        drowned = ""
        if forecast.too_small:
            drowned = f" (smaller ones, as {_by_metric(settings, forecast.too_small)}, would drown)"
        smallest = {name: forecast.smallest_drop[name] for name in known}
        yield (
            f"Seeds are taken to differ by {_by_metric(settings, known)} until the baseline shows more, and "
            f"{_changes(settings, known)} of {_by_metric(settings, smallest)} and more are looked for{drowned}."
        )
    if len(known) < len(forecast.noise):
        others = [name for name in forecast.noise if name not in known]
        seen = f"what {_changes(settings, others)} can be seen"
        yield f"What seeds of {', '.join(others)} differ by, and so {seen}, the baseline has to show."


def _changes(settings, metrics):
    """What metrics do that get worse."""
    directions = {settings.metric(name).higher_is_better for name in metrics}
    return "changes for the worse" if len(directions) > 1 else "drops" if True in directions else "rises"


def _by_metric(settings, numbers):
    """{metric: number} in words, as short as it gets."""
    words = {name: number(value, settings.metric(name)) for name, value in numbers.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return " and ".join(f"{one} ({name})" for name, one in words.items())
