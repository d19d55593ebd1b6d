"""Tables as text."""

import io
from collections.abc import Sequence


def table_text(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """A table as text, as wide as its content.

    Names are shown as they are: `[red]` is no color, `:x:` no picture.

    Args:
        header: List of strings.
        rows: List of lists of strings. Line breaks stay.
        left: Collection of the columns' titles that are aligned to the left.

    Returns:
        String, with a line break at its end.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in header:
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    # In a notebook rich would show the table at once and leave the text empty.
    console = Console(file=stream, width=100_000, markup=False, emoji=False, highlight=False, force_jupyter=False)
    console.print(table)
    return stream.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, whose cells may hold `|` and line breaks."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", ", ") for cell in line] for line in lines]
    return "\n".join(["| " + " | ".join(line) + " |" for line in cells])
