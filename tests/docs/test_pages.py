"""Runs the Python of every docs page, each page in one namespace, from top to bottom."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
NOT_RUN = "<!-- not run -->"


BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_python(page):
    return BLOCK.search(page.read_text()) is not None


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES if with_python(p)])
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pages write to runs/ and save models
    text = page.read_text()
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        before = text[: block.start(1)]
        # Empty lines in front keep the line numbers of the page in tracebacks.
        code = compile("\n" * before.count("\n") + block[1], str(page), "exec")
        if not before.removesuffix("```python\n").endswith(NOT_RUN + "\n"):
            exec(code, namespace)


def test_blocks_left_out_are_rare():
    pages = [page.read_text() for page in PAGES]
    assert sum(page.count(NOT_RUN) for page in pages) <= 0.1 * max(10, sum(len(BLOCK.findall(page)) for page in pages))
