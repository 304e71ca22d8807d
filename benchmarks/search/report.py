"""What the benchmark measured: the main figures as markdown, and all of them as the rows of a table."""

import math

from landscape import TRUTHS, bound
from measure import BINS, added, interval

AIM = 0.07  # the error at which the aims are stated
AIM_EXACT, AIM_WRONG, AIM_ROUNDS = 0.98, 0.01, 1 / 3
AIM_RUNS = {"one": 9.5, "pair": 17.3}  # before confirmation, at 64 flags: what thresholded runs could reach at best
AIM_FAMILY = 18.9  # the same for none, one, two together and two independent, each explanation being as likely
MAIN_FLAGS = (3, 11, 64)  # numbers of flags in the main figures; all are in the grid
BESIDE = (("none", 11), ("one", 11), ("pair", 11), ("two", 11), ("pair", 64))  # where the other searches are shown
FEW = {"none", "one", "pair", "two"}  # what the search expects from the start
NAMED = ("one", "pair", "two")


def report(found, search):
    """Markdown of {(cell, method): Summary}, line by line."""
    own = {cell: one for (cell, method), one in found.items() if method == search}
    plain = {cell: one for cell, one in own.items() if is_plain(cell)}
    yield from aims(own, plain, found, search)
    aimed = {cell: one for cell, one in plain.items() if cell.error == AIM}
    shown = {cell: one for cell, one in aimed.items() if cell.n in MAIN_FLAGS} or aimed
    yield from ["", f"### Main figures: a single run errs in {AIM:.0%}, one slot", ""]
    yield from rows(HEAD, [line(cell, one) for cell, one in shown.items()])
    yield from ["", "### Exact / wrong by error, one slot, all numbers of flags", ""]
    yield from by_error(plain)
    yield from ["", "### Stated and actual", ""]
    yield from calibration(own)
    others = list(dict.fromkeys(method for _, method in found if method != search))
    if others:
        yield from ["", f"### Beside other searches, a single run errs in {AIM:.0%}", ""]
        yield from beside(aimed, found, [search, *others])


HEAD = ["n", "truth", "campaigns", "runs", "90 %", "before", "bound", "exact", "wrong", "inconclusive"]
GRID = (
    *("n", "truth", "error", "slots", "noise", "crash", "spread", "method"),
    *("campaigns", "runs", "runs_90", "before", "bound", "rounds", "rounds_90"),
    *("exact", "exact_low", "exact_high", "wrong", "inconclusive"),
)


def csv_rows(found):
    """All figures of {(cell, method): Summary}, as rows under GRID; rates are shares of 1."""
    for (cell, method), one in found.items():
        low, high = interval(one.exact, one.campaigns)
        yield [
            *(cell.n, cell.truth, f"{cell.error:g}", cell.slots, cell.noise, f"{cell.crash:g}", f"{cell.spread:g}"),
            *(method, one.campaigns, f"{one.runs:.1f}", one.runs_90, f"{one.before:.1f}"),
            *(f"{bound(cell.n, cell.truth, cell.error):.1f}", f"{one.rounds:.1f}", f"{one.rounds_90:.1f}"),
            *(f"{one.exact:.3f}", f"{low:.2f}", f"{high:.2f}", f"{one.wrong:.3f}", f"{one.inconclusive:.3f}"),
        ]


def line(cell, one):
    """A row of the main figures."""
    low, high = interval(one.exact, one.campaigns)
    return [
        cell.n,
        cell.truth,
        one.campaigns,
        f"{one.runs:.1f}",
        one.runs_90,
        f"{one.before:.1f}",
        f"{bound(cell.n, cell.truth, cell.error):.1f}",
        f"{one.exact:.1%} ({low:.0%} to {high:.0%})",
        f"{one.wrong:.1%}",
        f"{one.inconclusive:.1%}",
    ]


def is_plain(cell):
    """Whether a cell has one slot, normal noise, no crashes and runs of one length."""
    return cell == cell._replace(slots=1, noise="normal", crash=0.0, spread=0.0)


def by_error(plain):
    """For each error and truth, over all numbers of flags: the shares of campaigns exact and with a wrong name."""
    truths = [truth for truth in TRUTHS if any(cell.truth == truth for cell in plain)]
    body = []
    for error in sorted({cell.error for cell in plain}):
        cells = [[one for cell, one in plain.items() if (cell.error, cell.truth) == (error, truth)] for truth in truths]
        body.append([f"{error:.0%}", *(f"{_whole(own, 'exact'):.1%} / {_whole(own, 'wrong'):.1%}" for own in cells)])
    yield from rows(["error", *truths], body)


def aims(own, plain, found, search):
    """The table of aims, each with what was reached and where it was missed."""
    named = {cell: one for cell, one in plain.items() if cell.error == AIM and cell.n >= 8 and cell.truth in NAMED}
    body = []
    if named:
        short = [f"{cell.n} {cell.truth} {one.exact:.1%}" for cell, one in named.items() if one.exact < AIM_EXACT]
        body.append(
            [f"exact in at least {AIM_EXACT:.0%}: one, pair, two; n from 8", _spread(named, "exact"), _list(short)]
        )
        bad = [f"{cell.n} {cell.truth} {one.wrong:.1%}" for cell, one in named.items() if one.wrong > AIM_WRONG]
        body.append([f"a wrong name in at most {AIM_WRONG:.0%}", _spread(named, "wrong"), _list(bad)])
    large = {cell.truth: one for cell, one in plain.items() if cell.error == AIM and cell.n == 64}
    for truth, most in AIM_RUNS.items():
        if truth in large:
            value = large[truth].before
            body.append([f"runs before confirmation, {truth} of 64: {most}", f"{value:.1f}", _missed(value > most)])
    if large.keys() >= FEW:
        ways = {"none": 1, "one": 64, "pair": 2016, "two": 2016}
        value = sum(large[truth].before * number for truth, number in ways.items()) / sum(ways.values())
        body.append([f"the same, whole family: {AIM_FAMILY}", f"{value:.2f}", _missed(value > AIM_FAMILY)])
    for said, field in (("stated 95 % at the end", "stated"), ("believed 95 % on the way", "believed")):
        for errors, chosen in (("", own), (f", errors up to {AIM:.0%}", _up_to(own, AIM))):
            count, _, right = _middle(_stated(chosen, field))
            if count:
                share = right / count
                missed = _missed(not 0.925 <= share <= 0.975)
                body.append([f"{said}, right in 92.5 to 97.5 %{errors}", f"{share:.1%} of {count}", missed])
    ratios = {}
    for cell, one in own.items():
        base = own.get(cell._replace(slots=1)) or own.get(cell._replace(slots=1, spread=0.0))
        if cell.slots == 8 and base:
            ratios[f"{cell.n} {cell.truth}"] = one.rounds / base.rounds
    if ratios:
        long = [f"{where} {ratio:.2f}" for where, ratio in ratios.items() if ratio > AIM_ROUNDS]
        body.append(
            [
                "rounds with 8 slots: at most a third of those with 1",
                f"{min(ratios.values()):.2f} to {max(ratios.values()):.2f}",
                _list(long),
            ]
        )
    worse = beaten(plain, found, search)
    body.append(["cells where another search needs fewer runs and is more often exact", str(len(worse)), _list(worse)])
    yield from rows(["aim", "reached", "missed"], body)


def beaten(plain, found, search):
    """The cells in which another method has fewer runs and is more often exact by more than chance explains (5 %)."""
    return [
        f"{cell.n} {cell.truth} {cell.error:.0%}: {method} {one.runs:.1f} runs {one.exact:.1%}, "
        f"not {plain[cell].runs:.1f} {plain[cell].exact:.1%}"
        for (cell, method), one in found.items()
        if method != search and cell in plain and one.runs < plain[cell].runs and _more_often(one, plain[cell])
    ]


def calibration(own):
    """Stated probability, in bins, against the share right; at the end of campaigns and on the way."""
    body = []
    kinds = [("end", "stated"), ("way", "believed")]
    tables = {kind: _stated(own, field) for kind, field in kinds}
    for number, (low, high) in enumerate(zip(BINS, BINS[1:])):
        cells = [f"{low:.1%} to {high:.1%}"]
        for kind, _ in kinds:
            count, total, right = tables[kind][number]
            cells += [count, f"{total / count:.1%}" if count else "", f"{right / count:.1%}" if count else ""]
        body.append(cells)
    yield from rows(["stated", "at the end", "mean", "right", "on the way", "mean", "right"], body)


def beside(aimed, found, methods):
    """Mean runs and rates of every method in a few cells; without any of those in all that there are."""
    cells = [cell for where in BESIDE for cell in aimed if (cell.truth, cell.n) == where] or list(aimed)
    yield "Mean runs: share of campaigns exact / with a wrong name."
    yield ""
    body = [[name, *(_brief(found[c, name]) if (c, name) in found else "" for c in cells)] for name in methods]
    yield from rows(["search", *(f"{cell.truth} of {cell.n}" for cell in cells)], body)


def rows(head, body):
    """A markdown table."""
    yield f"| {' | '.join(map(str, head))} |"
    yield f"|{' --- |' * len(head)}"
    for cells in body:
        yield f"| {' | '.join(map(str, cells))} |"


def _brief(one):
    return f"{one.runs:.1f}: {one.exact:.0%} / {one.wrong:.0%}"


def _stated(own, field):
    """Binned statements of all cells whose truth is among those that the search expects."""
    tables = [getattr(one, field) for cell, one in own.items() if cell.truth in FEW]
    return added(tables) if tables else [[0, 0.0, 0] for _ in BINS[1:]]


def _up_to(cells, error):
    return {cell: one for cell, one in cells.items() if cell.error <= error}


def _middle(bins):
    return bins[BINS.index(0.925)]


def _spread(cells, field):
    values = [getattr(one, field) for one in cells.values()]
    return f"{min(values):.1%} to {max(values):.1%}, in all {_whole(cells.values(), field):.1%}"


def _whole(summaries, field):
    """A rate over the campaigns of several Summaries together."""
    return sum(getattr(one, field) * one.campaigns for one in summaries) / sum(one.campaigns for one in summaries)


def _more_often(one, other):
    """Whether campaigns are more often exact, by 1.64 standard errors of the difference."""
    exact = one.exact * one.campaigns + other.exact * other.campaigns
    share = exact / (one.campaigns + other.campaigns)
    error = math.sqrt(share * (1 - share) * (1 / one.campaigns + 1 / other.campaigns))
    return one.exact - other.exact > 1.64 * error


def _missed(missed):
    return "yes" if missed else "no"


def _list(missed):
    return "; ".join(missed) or "no"
