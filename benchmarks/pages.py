"""What a benchmark measured, written into docs/: the last part of a page, or a table of its own."""

import csv

LINE = "<!-- measured -->"


def write_measured(page, text):
    """Puts `text` below the LINE of a page, in the place of what stood there; the text above it is people's."""
    head = page.read_text().partition(LINE)[0] if page.exists() else ""
    page.write_text(f"{head}{LINE}\n\n{text}")


def write_csv(path, head, rows):
    """Writes a table that is too large for a page."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
