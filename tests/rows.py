"""Which rows of a table of cases the default run takes."""

import pytest


def by_default(kept, rows):
    """Rows for `pytest.mark.parametrize`: those that are not among the kept ones are marked slow.

    A kept row stands for a kind of fault; the others find the same kind again, elsewhere.
    """
    kept = list(kept)
    assert all(any(row == k for row in rows) for k in kept), kept
    return [row if any(row == k for k in kept) else _slow(row) for row in rows]


def _slow(row):
    return pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.slow)
