"""What the dashboard costs: CPU time of each callback as a part of the epoch.

Callbacks work while training waits, so their time is counted inside the epochs
that they are part of, as CPU time of the process: what else the machine does
hardly counts. An epoch is that of 50,000 small pictures by default.

    python recipes/benchmarks/dashboard_cost.py [--tasks 2 8] [--examples 50000] [--epochs 4]
"""

import tempfile
import time

from shared import NETWORKS, compile_options, make_data, options_of, print_table

import keras
import numpy as np

import keras_mtl
from keras_mtl.callbacks import ConflictMonitor, SharingMonitor, TaskBoard


class Clock(keras.callbacks.Callback):
    """Notes the CPU time as an epoch ends, before or after the callback that it stands by."""

    def __init__(self):
        super().__init__()
        self.ends, self.begins = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(time.process_time())

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(time.process_time())


def measure(builder, options, network, tasks, batch_size, examples, epochs, every):
    """CPU seconds of the epochs' training, and of each callback in them, first epoch left out."""
    shape, stages = NETWORKS[network]
    heads = {f"t{k}": keras.layers.Dense(10) for k in range(tasks)}
    model = builder(keras.Input(shape), stages(), heads, **options)
    model.compile(**compile_options(tasks), weighting="uncertainty")
    data = make_data(network, tasks, batch_size, examples // batch_size)
    x, y = next(iter(data.as_numpy_iterator()))
    monitor = ConflictMonitor(x[:64], {task: labels[:64] for task, labels in y.items()}, every=every)
    watched = {"ConflictMonitor": monitor}
    if builder is not keras_mtl.hard_sharing:
        watched["SharingMonitor"] = SharingMonitor(x[:256])
    with tempfile.TemporaryDirectory() as folder:
        watched["TensorBoard"] = keras.callbacks.TensorBoard(folder, write_graph=False)
        watched["TaskBoard"] = TaskBoard(folder, conflict_monitor=monitor, x=x[:256])
        clocks = [Clock() for _ in range(len(watched) + 1)]
        row = [clocks[0]]
        for callback, clock in zip(watched.values(), clocks[1:], strict=True):
            row += [callback, clock]
        model.fit(data, epochs=epochs, verbose=0, callbacks=row)
    ends = np.array([clock.ends for clock in clocks])[:, 1:]
    seconds = dict(zip(watched, np.diff(ends, axis=0), strict=True))
    return ends[0] - np.array(clocks[-1].begins)[1:], seconds


def main():
    every = (100, "steps between two measurements of ConflictMonitor")
    sizes = {"batch_size": 256, "examples": 50_000, "epochs": 4, "every": every}
    args = options_of(__doc__, network=(tuple(NETWORKS), ""), tasks=[2, 8], **sizes)
    builders = {
        "hard sharing": (keras_mtl.hard_sharing, {}),
        "MMoE": (keras_mtl.mmoe, {"experts": 3, "shared_depth": 1}),
    }
    rows = []
    for tasks in args.tasks:
        for name, (builder, options) in builders.items():
            keras.utils.clear_session()
            sizes = (args.network, tasks, args.batch_size, args.examples, args.epochs, args.every)
            epoch, seconds = measure(builder, options, *sizes)
            for i, (callback, of_callback) in enumerate(seconds.items()):
                first = (f"{name}, {tasks} tasks", f"{np.median(epoch):.2f}") if i == 0 else ("", "")
                part = f"{100 * np.median(of_callback / epoch):.2f} %"
                rows.append([*first, callback, f"{np.median(of_callback):.3f}", part])
    header = ["model", "epoch, s of CPU", "callback", "s of CPU at its end", "part of the epoch"]
    print_table(f"{args.network}, {args.examples:,} examples, batches of {args.batch_size}", header, rows)
    print("ConflictMonitor's measurements between steps are part of the epoch's time.")


if __name__ == "__main__":
    main()
