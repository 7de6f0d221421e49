"""Tables: as text for the terminal, as Markdown for a page, and put into a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from needle_ir.viz.atomic import write_text

FILE_WIDTH = 120  # columns, where the output is no terminal


@dataclass(frozen=True)
class Table:
    """Rows of text. The first column is aligned to the left, the others to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1  # how many columns are aligned to the left


def new_console() -> Console:
    """A console that is wide enough for tables where its output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Show tables on a terminal."""
    for table in tables:
        shown = RichTable(title=table.title, title_justify="left", title_style="bold")
        for number, name in enumerate(table.columns):
            shown.add_column(
                name, justify="left" if number < table.left else "right", no_wrap=number == 0
            )
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def markdown(tables: Sequence[Table]) -> str:
    """The tables in Markdown, each below its title."""
    return "\n\n".join(map(_markdown_table, tables)) + "\n"


def _markdown_table(table: Table) -> str:
    rules = ["---" if i < table.left else "---:" for i in range(len(table.columns))]
    lines = [table.columns, rules, *table.rows]
    rows = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
    return "\n".join([f"**{table.title}**", "", *rows])


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the lines `<!-- begin NAME -->` and `<!-- end NAME -->` of a page.

    Raises ValueError where the page does not have these two lines once, in this order.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    page = path.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"{path} needs the lines {begin.strip()} and {end.strip()}, once each")
    before, rest = page.split(begin)
    write_text(path, f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")
