"""Event files of a dashboard: one run for each task."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._types import Tensor

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.summary_pb2 import Summary


class BoardWriter:
    """Collects what an epoch has to say and writes it at once.

    An event for each number, as `tf.summary.scalar` writes them, takes most of
    a dashboard's time where there are many tasks. Here each run gets one event
    an epoch.

    Where the disk is full or the folder is taken away, it warns once and writes
    no more: a training is worth more than its dashboard.

    Args:
        log_dir: Path of the log directory. Runs are folders in it.
    """

    def __init__(self, log_dir: str | os.PathLike) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._errors = (OSError, tf.errors.OpError)
        self._log_dir = log_dir
        self._stopped = False
        self._writers, self._waiting = {}, {}

    def scalar(self, run: str, tag: str, value: float) -> None:
        """Adds a number."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self.add(run, scalar_pb(tag, float(value)))

    def histogram(self, run: str, tag: str, values: Tensor) -> None:
        """Adds a histogram of an array."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self.add(run, histogram_pb(tag, np.asarray(values, "float64").ravel()))

    def image(self, run: str, tag: str, pixels: np.ndarray) -> None:
        """Adds a picture, given as an array of shape `(height, width, 3)`."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        height, width, _ = pixels.shape
        content = make_tensor_proto([str(width).encode(), str(height).encode(), png.getvalue()])
        about = create_summary_metadata(display_name=None, description="")
        self.add(run, Summary(value=[Summary.Value(tag=tag, tensor=content, metadata=about)]))

    def text(self, run: str, tag: str, markdown: str) -> None:
        """Writes a text card."""
        if self._stopped:
            return
        with self._stops_at_errors(), self._writer(run).as_default(step=0):
            self._summary.text(tag, markdown)

    def graph(self, run: str, graph: GraphDef) -> None:
        """Writes a `GraphDef`."""
        if self._stopped:
            return
        with self._stops_at_errors(), self._writer(run).as_default(step=0):
            self._summary.graph(graph)

    def add(self, run: str, summary: Summary) -> None:
        """Adds what is in a `Summary` protocol buffer."""
        if run in self._waiting:
            self._waiting[run].MergeFrom(summary)
        else:
            self._waiting[run] = summary

    def write(self, step: int) -> None:
        """Writes what was added, for those who watch to see."""
        with self._stops_at_errors():
            for run, summary in () if self._stopped else self._waiting.items():
                writer = self._writer(run)
                with writer.as_default():
                    self._summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
                writer.flush()
        self._waiting = {}

    def close(self) -> None:
        """Closes the files."""
        with self._stops_at_errors():
            for writer in () if self._stopped else self._writers.values():
                writer.close()
        self._writers = {}

    @contextlib.contextmanager
    def _stops_at_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            self._stopped = True
            warnings.warn(
                f"The dashboard in {self._log_dir!r} could not be written and will not be from here on; training goes "
                f"on. {type(error).__name__}: {re.sub(r'{{.*?}} *', '', str(error).splitlines()[0])}",
                stacklevel=4,
            )

    def _writer(self, run: str) -> tf.summary.SummaryWriter:
        if run not in self._writers:
            self._writers[run] = self._summary.create_file_writer(os.path.join(self._log_dir, run))
        return self._writers[run]
