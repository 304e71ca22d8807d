"""Draws a campaign's status table as a picture, docs/result-table.svg: python scripts/result_table.py runs/demo"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from bisect_cli.report.summary import summarize_folder
from bisect_cli.report.table import render

if __name__ == "__main__":
    console = Console(record=True, width=120, file=io.StringIO(), highlight=False)
    console.print(render(summarize_folder(Path(sys.argv[1]))))
    svg = console.export_svg(title="maskrcnn-bisect status")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # a picture that loads nothing from elsewhere
    Path("docs/result-table.svg").write_text(svg)
