"""Drawings of what the benchmark measured, as SVG. Needs matplotlib: pip install 'maskrcnn-bisect[plots]'."""

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {"svg.hashsalt": "search", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

from matplotlib import pyplot  # noqa: E402 - after the backend is chosen
from measure import BINS, added  # noqa: E402

ERROR = 0.07  # of the cells drawn


def draw(found, search, folder):
    """Draws runs against accuracy, rounds against slots and calibration to the folder, as far as there are figures."""
    for name, plot in (("accuracy", accuracy), ("rounds", rounds), ("calibration", calibration)):
        figure = plot(found, search)
        figure.savefig(folder / f"search-{name}.svg", metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)


def accuracy(found, search):
    """Mean runs against the share of campaigns that name exactly the culprits: a panel a truth, a line a method."""
    plain = {key: one for key, one in found.items() if _plain(key[0]) and key[0].error == ERROR}
    truths = list(dict.fromkeys(cell.truth for cell, _ in plain))
    methods = list(dict.fromkeys(method for _, method in plain))
    figure, axes = pyplot.subplots(1, len(truths), figsize=(2.6 * len(truths), 2.8), sharey=True, squeeze=False)
    for axis, truth in zip(axes[0], truths):
        for number, method in enumerate(methods):
            points = sorted((cell.n, one) for (cell, by), one in plain.items() if by == method and cell.truth == truth)
            own = method == search
            axis.plot(
                [one.runs for _, one in points],
                [one.exact for _, one in points],
                marker="o" if own else ".",
                linewidth=2 if own else 0.8,
                color="black" if own else f"C{number}",
                label=method,
            )
        axis.set_title(truth)
        axis.set_xlabel("mean runs")
        axis.set_xscale("log")
        axis.set_xticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
        axis.set_xticks([], minor=True)
        axis.set_ylim(-0.03, 1.03)
    axes[0][0].set_ylabel("exactly the culprits")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.91, 0.5), frameon=False)
    return figure


def rounds(found, search):
    """Mean rounds against slots, a line a truth and n."""
    figure, axis = pyplot.subplots(figsize=(4.5, 3))
    lines = {}
    for (cell, method), one in found.items():
        if method == search and cell.error == ERROR and cell.noise == "normal" and not cell.crash:
            lines.setdefault((cell.truth, cell.n, cell.spread), []).append((cell.slots, one.rounds))
    for (truth, n, _), points in sorted(lines.items()):
        if len(points) > 1:
            axis.plot(*zip(*sorted(points)), marker="o", label=f"{truth}, n = {n}")
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 4, 8], ["1", "4", "8"])
    axis.set_xlabel("slots")
    axis.set_ylabel("mean rounds")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=7, ncols=2)
    return figure


def calibration(found, search):
    """Stated probability against the share that was right; the area of a mark goes with the number of statements."""
    figure, axis = pyplot.subplots(figsize=(3.4, 3.2))
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    own = [one for (_, method), one in found.items() if method == search]
    for label, tables in (("at the end", [one.stated for one in own]), ("on the way", [one.believed for one in own])):
        bins = [(total / count, right / count, count) for count, total, right in added(tables) if count]
        if bins:
            most = max(count for *_, count in bins)
            stated, right, count = zip(*bins)
            axis.scatter(stated, right, [20 + 100 * one / most for one in count], alpha=0.6, label=label)
    axis.set_xlabel("probability stated")
    axis.set_ylabel("share right")
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.04)
    axis.set_xticks(sorted({0, 1, *(round(edge, 1) for edge in BINS)}))
    axis.legend(frameon=False, loc="upper left")
    return figure


def _plain(cell):
    return cell == cell._replace(slots=1, noise="normal", crash=0.0, spread=0.0)
