"""Matplotlib, where it is installed."""

from types import ModuleType


def pyplot() -> ModuleType:
    """Pyplot without a display.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt
