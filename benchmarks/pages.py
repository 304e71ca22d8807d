"""Pages in docs/ whose last part is what a benchmark measured."""

LINE = "<!-- measured -->"


def write_measured(page, text):
    """Puts `text` below the LINE of a page, in the place of what stood there; the text above it is people's."""
    head = page.read_text().partition(LINE)[0] if page.exists() else ""
    page.write_text(f"{head}{LINE}\n\n{text}")
