"""Progress of many training runs on one line."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras


@contextlib.contextmanager
def _new_models_are_traced() -> Iterator[None]:
    """Within it, TensorFlow does not warn of functions that are traced anew: each run has a new model."""

    def other(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@contextlib.contextmanager
def run_bar(title: str, total: int, show: bool) -> Iterator[Callable[..., Any]]:
    """A bar that moves with every run. Meanwhile TensorFlow is silent about new models being traced.

    Args:
        title: String.
        total: Integer. Number of runs.
        show: Boolean. Without it, nothing is shown.

    Yields:
        Function `(description)`, to be called as each run begins, and once
        without arguments at the end.
    """
    with _new_models_are_traced():
        if not show:
            yield lambda description=None: None
            return
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        # All runs tell how long the rest takes: with the default, slow ones would leave it unknown.
        with progress.Progress(*columns, speed_estimate_period=1e9) as bar:
            item = bar.add_task(title, total=total)
            begun = [False]

            def begin(description: str | None = None) -> None:
                if begun[0]:
                    bar.advance(item)
                begun[0] = True
                if description is not None:
                    bar.update(item, description=f"{title}: {description}")

            yield begin


class EpochBar(keras.callbacks.Callback):
    """A bar that moves with every epoch of one `fit`.

    Args:
        title: String.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._begin = self._stack.enter_context(run_bar(self._title, self.params["epochs"], True))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begin(f"epoch {epoch + 1}")

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()
        self._stack.close()
