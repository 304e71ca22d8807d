"""Parity as a table. Free of TensorFlow."""

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from maskrcnn.parity.checks import TOLERANCE
from maskrcnn.parity.statistics import ALPHA


def show(report):
    """Prints the result of engine.run for people, on stdout."""
    Console().print(render(report))


def render(report):
    """The result of engine.run as a rich renderable."""
    planted = f"  planted {', '.join(report['plant'])}" if report["plant"] else ""
    title = Text.assemble(("parity", "bold"), f"  preset {report['preset']}  seed {report['seed']}{planted}")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("piece", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("worst case")
    table.add_column("s", justify="right", no_wrap=True)
    for piece in report["pieces"]:
        table.add_row(
            piece["flag"],
            _verdict(piece),
            _number(piece["error"]),
            _number(piece["p_value"]),
            piece["worst"],
            f"{piece['seconds']:.1f}",
        )
    lines = []
    for piece in report["pieces"]:
        if not piece["agrees"]:
            lines.append(Text(f"{piece['flag']} differs; to reproduce: {piece['reproduce']}", style="bold red"))
        if piece["note"]:
            lines.append(Text(f"{piece['flag']}: {piece['note']}", style="dim"))
    differing = sum(not piece["agrees"] for piece in report["pieces"])
    lines.append(
        Text(
            f"{differing or 'no'} of {len(report['pieces'])} pieces differ: errors above {TOLERANCE:g} of the numbers' "
            f"magnitude, or chances below {ALPHA:g}. Whether a difference costs accuracy, only training shows."
        )
    )
    return Group(title, table, *lines)


def _verdict(piece):
    if not piece["agrees"]:
        return Text("✗ differs", style="bold red")
    return Text("= same graph", style="cyan") if piece["same_computation"] else Text("✓ agrees", style="green")


def _number(value):
    return "" if value is None else f"{value:.1e}" if value < 0.01 else f"{value:.2f}"
