"""A TensorBoard dashboard of the tasks."""

import os
import re

import keras
import numpy as np

from keras_mtl.callbacks.conflict_monitor import ConflictMonitor


class TaskBoard(keras.callbacks.Callback):
    """Writes what the stock TensorBoard callback does not: the tasks, together.

    Use it beside `keras.callbacks.TensorBoard(log_dir)`, which writes the
    scalars. It adds a custom-scalars layout with all task losses on one chart,
    all task weights on one, training against validation for each task,
    gradient norms, cosines and delta_m; heat maps of sharing coefficients and
    of the gradients' cosines; a text card of the architecture and the compile
    settings; histograms of weighting state; and the model's graph.

    Args:
        log_dir: Path of the log directory, the same as the stock callback's.
        monitor: A `ConflictMonitor` of the same `fit`, for the cosine heat
            map. Defaults to `None`.
        x: Inputs for gates and masks that depend on the example; their heat
            maps are left out without it. Defaults to `None`.
        images_every: Integer. Epochs between two heat maps; 0 for none.
            Defaults to `1`.

    Raises:
        ValueError: If the directory cannot be written to.

    Example:

    >>> board = keras_mtl.callbacks.TaskBoard("runs/a")
    """

    def __init__(self, log_dir, monitor=None, x=None, images_every=1):
        super().__init__()
        if monitor is not None and not isinstance(monitor, ConflictMonitor):
            raise ValueError(f"`monitor` should be a `ConflictMonitor`. Received: monitor={monitor!r}")
        self.log_dir = str(log_dir)
        self.monitor = monitor
        self.x = x
        self.images_every = images_every
        self._check_directory()

    def _check_directory(self):
        try:
            os.makedirs(self.log_dir, exist_ok=True)
            path = os.path.join(self.log_dir, f".write-{os.getpid()}")
            with open(path, "w"):
                pass
            os.remove(path)
        except OSError as error:
            raise ValueError(f"`log_dir` should be writable. Received: log_dir={self.log_dir!r} ({error})") from error

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self._tf = tf
        # The layout counts for the runs below the root, so it lies in the root.
        with tf.summary.create_file_writer(self.log_dir).as_default():
            layout = _layout(self.model.compiled_tasks.tasks, self.model)
            tf.summary.experimental.write_raw_pb(layout.SerializeToString(), step=0)
        self._writer = tf.summary.create_file_writer(os.path.join(self.log_dir, "tasks"))
        with self._writer.as_default():
            tf.summary.text("sharing", _architecture_card(self.model), step=0)
            tf.summary.text("compile", _compile_card(self.model), step=0)
            self._write_graph()

    def on_epoch_end(self, epoch, logs=None):
        tf = self._tf
        with self._writer.as_default(step=epoch):
            weighting = self.model.compiled_tasks.weighting
            for variable in weighting.variables:
                if "float" in str(variable.dtype):
                    tf.summary.histogram(f"weighting/{variable.name}", np.array(variable))
            if self.images_every and epoch % self.images_every == 0:
                for name, matrix, names in self._heat_maps():
                    tf.summary.image(name, _heat_map(matrix, names, name))

    def on_train_end(self, logs=None):
        self._writer.close()

    def _heat_maps(self):
        tasks = list(self.model.compiled_tasks.tasks)
        if self.monitor is not None and self.monitor.history:
            yield "gradients/cosine", self.monitor.history[-1]["total_cosine"], tasks
        try:
            coefficients = self.model.sharing_coefficients(self.x)
        except ValueError:  # there are gates that depend on the example, and no example
            coefficients = {}
        for name, values in coefficients.items():
            values = np.atleast_2d(np.asarray(values))
            if values.size > 1:
                yield f"sharing/{name}", values.reshape(-1, values.shape[-1]), None

    def _write_graph(self):
        # The stock callback writes it for plain functional models only.
        metadata = self._tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "graph_keras_model"
        metadata.plugin_data.content = b"1"
        plain = keras.Model(self.model.input, self.model.output, name=self.model.name)
        self._tf.summary.write("keras", plain.to_json(), step=0, metadata=metadata)


def _layout(tasks, model):
    """The custom-scalars layout: what belongs on one chart."""
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    any_task = "(" + "|".join(re.escape(task) for task in tasks) + ")"

    def chart(title, *tags):
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))

    together = [
        chart("task losses", rf"epoch_{any_task}_loss$"),
        chart("task weights", rf"epoch_{any_task}_weight$"),
        chart("gradient norms", rf"epoch_{any_task}_grad_norm$"),
        chart("gradient cosine", r"epoch_grad_cosine"),
        chart("conflict rate", r"epoch_conflict_rate$"),
        chart("delta_m", r"epoch_delta_m$"),
    ]
    by_task = [chart(f"{task}: training and validation", rf"epoch_{re.escape(task)}_loss$") for task in tasks]
    for metric in model.compiled_tasks.task_metrics:
        by_task.append(chart(f"{metric.name}: training and validation", rf"epoch_{re.escape(metric.name)}$"))
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(title="all tasks", chart=together),
            layout_pb2.Category(title="task by task", chart=by_task),
        ]
    )
    return summary.pb(layout)


def _architecture_card(model):
    sharing = model.sharing
    lines = ["| layer | parameters | tasks |", "|---|---:|---|"]
    for layer in sharing.layers:
        served = sharing.tasks_of(layer)
        whose = "all tasks" if len(served) == len(model.tasks) else ", ".join(served)
        lines.append(f"| {layer.name} | {layer.count_params():,} | {whose} |")
    return "\n".join(lines)


def _compile_card(model):
    compiled = model.compiled_tasks
    lines = ["| setting | value |", "|---|---|"]
    lines.append(f"| optimizer | {type(model.optimizer).__name__} |")
    lines.append(f"| weighting | `{compiled.weighting!r}` |")
    lines.append(f"| gradients | {compiled.gradients} |")
    for task, weight in model.task_weights().items():
        loss = compiled.task_losses.losses[task]
        lines.append(f"| {task} | {loss.name}, static weight {weight:g} |")
    return "\n".join(lines)


def _heat_map(matrix, names, title):
    """One heat map as an image batch of shape `(1, height, width, 4)`."""
    from keras_mtl.analysis.plots import pyplot

    plt = pyplot()
    size = 1.5 + 0.6 * max(matrix.shape)
    figure, axis = plt.subplots(figsize=(min(size + 1, 10), min(size, 10)), layout="constrained")
    limit = max(1.0, float(np.abs(matrix).max()))
    image = axis.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    if names is not None:
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(names)), names)
    if matrix.size <= 64:
        for (row, column), value in np.ndenumerate(matrix):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="small")
    axis.set_title(title, fontsize="small")
    figure.colorbar(image)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    plt.close(figure)
    return pixels[None]
