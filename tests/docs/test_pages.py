"""Runs the Python of every docs page, each page in one namespace, from top to bottom, and compares what it prints.

A block that prints has what it prints in a `text` block right below it. Numbers are compared to the digits that are
written, and `...` stands for anything, as in doctests.
"""

import contextlib
import doctest
import io
import re
from pathlib import Path

import pytest
from _pytest.doctest import _get_checker

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
NOT_RUN = "<!-- not run -->"

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.register_optionflag("NUMBER")


def with_python(page):
    return BLOCK.search(page.read_text()) is not None


def blocks_of(text):
    """What runs, compiled with the page's line numbers, and what it should print."""
    for block in BLOCK.finditer(text):
        before = text[: block.start(1)]
        if not before.removesuffix("```python\n").endswith(NOT_RUN + "\n"):
            yield "\n" * before.count("\n") + block[1], block[2] or ""


def run(code, name, namespace):
    """What a block prints, without the progress of trainings, which no two runs have alike."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, name, "exec"), namespace)
    return without_progress(out.getvalue())


def without_progress(text):
    """Text without Keras' progress bars and the heads of their epochs."""
    lines = [line.rsplit("\r", 1)[-1] for line in re.sub(r"\x1b\[[0-9;]*m|\x08+", "\r", text).split("\n")]
    return "\n".join(
        line for line in lines if not re.match(r"Epoch \d+/\d+|.*\d+/\d+ .*(s|ms|us)/step|\s*\d+/\d+ ", line)
    )


def without_borders(text):
    """Text without the lines of tables that hold no words: how long they are depends on the numbers."""
    return "\n".join(
        line.strip() for line in text.split("\n") if not re.fullmatch(r"\s*[┏┡├└┌╞][━┳╇┻┴┼─┬╪═┿┯╋┿]*.\s*", line)
    )


def compare(wanted, got, where):
    wanted, got = without_borders(wanted), without_borders(got)
    if not _get_checker().check_output(wanted, got, OPTIONS):
        pytest.fail(f"{where} prints something else.\nIt should be:\n{wanted}\nIt is:\n{got}", pytrace=False)


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES if with_python(p)])
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pages write to runs/ and save models
    namespace = {"__name__": "__main__"}
    for code, wanted in blocks_of(page.read_text()):
        got = run(code, str(page), namespace)
        compare(wanted, got, f"{page.relative_to(ROOT)}:{code.count(chr(10))}")


def test_blocks_left_out_are_rare():
    pages = [page.read_text() for page in PAGES]
    assert sum(page.count(NOT_RUN) for page in pages) <= 0.1 * max(10, sum(len(BLOCK.findall(page)) for page in pages))


def test_what_a_page_prints_is_compared():
    blocks = ("python\nprint(1 / 3, 'x')", "text\n0.33 ...", "python\ny = 2", "python\nprint(y)")
    page = "\n".join(f"```{block}\n```\n" for block in blocks)
    (first, wanted), (second, nothing), (third, missing) = blocks_of(page)
    namespace = {}
    assert run(first, "page", namespace) == f"{1 / 3} x\n" and wanted == "0.33 ...\n"
    compare(wanted, run(first, "page", namespace), "page")
    compare(nothing, run(second, "page", namespace), "page")
    with pytest.raises(pytest.fail.Exception, match="prints something else"):
        compare(missing, run(third, "page", namespace), "page")  # it prints, and nothing says what
    with pytest.raises(pytest.fail.Exception, match="prints something else"):
        compare("0.40 x\n", run(first, "page", namespace), "page")
