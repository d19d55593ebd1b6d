"""One model on two processes with `MultiWorkerMirroredStrategy`; one of them is killed, and both go on.

About five minutes on two cores, two minutes with --quick; downloads nothing.

What it shows: several machines train to the same numbers as one, for fixed and learned weights and for weights from
task gradients, labels missing unevenly among the workers; and a killed worker costs the epoch that it was in. The
machines are processes on this one, and the data are made up, since only the equality is of interest.

    python recipes/two_workers.py [--quick] [--weighting equal uncertainty nash] [--workers 2]

On a cluster, each machine runs `python recipes/two_workers.py --worker` with its own TF_CONFIG and a `--folder` that
all of them see.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

EPOCHS, BATCH, EXAMPLES = 6, 24, 192
TASKS = ("price", "kind")


def make_data():
    """Regression with gaps and classification; in each batch, one worker's half has few of the first task's labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 8)).astype("float32")
    price = (x[:, 0] - 0.5 * x[:, 1] * x[:, 2]).astype("float32")
    price[np.arange(EXAMPLES) % BATCH < BATCH // 2 - 2] = np.nan
    kind = (x[:, 3] + x[:, 4] > 0).astype("int64") + (x[:, 5] > 1)
    return x, {"price": price, "kind": kind}


def make_model(weighting):
    """The same model on every process: the seed is set."""
    import keras

    import keras_mtl

    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras_mtl.hard_sharing(
        keras.Input((8,)),
        [dense(32, activation="tanh", kernel_regularizer=keras.regularizers.L2(1e-4)), dense(16, activation="tanh")],
        {"price": dense(1), "kind": dense(3)},
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"price": "mse", "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        metrics={"kind": ["accuracy"]},
        weighting=weighting,
        missing={"price": "nan"},
        jit_compile=False,
    )
    return model


def datasets():
    """Batches of the whole cluster; each worker takes its share of every batch."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices(make_data()).batch(BATCH).with_options(options)


def train(weighting, folder, epochs):
    """Trains, from the last backup if there is one, and leaves weights and logs in the folder."""
    import keras
    import tensorflow as tf

    cluster = json.loads(os.environ.get("TF_CONFIG", "{}"))
    index = cluster["task"]["index"] if cluster else 0
    # Before anything else of TensorFlow: the processes have to find each other.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if cluster else tf.distribute.get_strategy()
    workers = len(cluster["cluster"]["worker"]) if cluster else 1
    backups = [folder / "backup" / str(worker) for worker in range(workers)]
    if index:
        # Killed at different moments, workers may have backups of different epochs: the first one's counts. None
        # writes before the first step, which all of them take together.
        shutil.rmtree(backups[index], ignore_errors=True)
        if backups[0].exists():
            shutil.copytree(backups[0], backups[index])
    with strategy.scope():
        model = make_model(weighting)
    tell = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: print(f"epoch {epoch}", flush=True),
        on_train_batch_end=lambda batch, logs: time.sleep(float(os.environ.get("SLOWLY", "0"))),
    )
    callbacks = [keras.callbacks.BackupAndRestore(backups[index]), tell]
    history = model.fit(datasets(), epochs=epochs, callbacks=callbacks, verbose=0).history
    if index == 0:
        np.savez(folder / "weights.npz", *[np.array(v) for v in model.variables])
        logs = {name: [float(value) for value in values] for name, values in history.items()}
        (folder / "logs.json").write_text(json.dumps(logs))


def run_workers(weighting, folder, epochs, workers, kill=None):
    """Starts the workers, and starts all again if one dies, such as the last in epoch `kill`. Returns how often."""
    starts = 0
    while starts < 3:
        starts += 1
        processes = start_workers(weighting, folder, epochs, workers, slowly=kill is not None and starts == 1)
        try:
            watch(processes, kill if starts == 1 else None)
            return starts
        except ChildProcessError as error:
            print(f"  {error}; all start again from the last backup")
        finally:
            for process in processes:
                process.kill()
                process.wait()
    raise RuntimeError("The workers died three times.")


def start_workers(weighting, folder, epochs, workers, slowly=False):
    """Starts one process for each worker, which know of each other if they are several. Returns them."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    command = [sys.executable, "-W", "ignore", __file__, "--worker", "--folder", str(folder), "--epochs", str(epochs)]
    processes = []
    for index in range(workers):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "SLOWLY": "0.05" if slowly else "0"}
        environment |= {"TF_CONFIG": json.dumps(cluster)} if workers > 1 else {}
        with (folder / f"worker-{index}.log").open("a") as log:
            streams = {"stdout": subprocess.PIPE, "stderr": log, "text": True}
            processes.append(subprocess.Popen([*command, "--weighting", weighting], env=environment, **streams))
    return processes


def watch(processes, kill=None):
    """Waits for all workers; kills the last one in the middle of an epoch if asked to."""
    *_, last = processes
    for line in last.stdout:
        if kill is not None and line.strip() == f"epoch {kill}":
            time.sleep(0.1)
            last.send_signal(signal.SIGKILL)
    for process in reversed(processes):  # the one that died ends first; the others would wait for it
        if process.wait() != 0:
            raise ChildProcessError(f"worker {processes.index(process)} died ({process.returncode})")


def free_ports(number):
    """Ports of this machine that nobody uses."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def largest_difference(folder, other):
    """Largest difference of any weight, optimizer and metrics left out."""
    with np.load(folder / "weights.npz") as these, np.load(other / "weights.npz") as those:
        return max(float(np.abs(these[name] - those[name]).max()) for name in these.files)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weighting", nargs="+", default=["equal", "uncertainty", "nash"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--folder", type=Path, default=Path("runs") / "two_workers")
    parser.add_argument("--quick", action="store_true", help="one weighting, with the kill only")
    parser.add_argument("--worker", action="store_true", help="be one worker, as TF_CONFIG says")
    args = parser.parse_args()
    if args.worker:
        train(args.weighting[0], args.folder, args.epochs)
        return

    from common import print_table

    rows, worst = [], 0.0
    for weighting in args.weighting[-1:] if args.quick else args.weighting:
        root = args.folder / weighting
        shutil.rmtree(root, ignore_errors=True)
        alone, together, killed = "one process", f"{args.workers} workers", "one of them killed"
        for name in (alone, killed) if args.quick else (alone, together, killed):
            folder = root / name.replace(" ", "_")
            folder.mkdir(parents=True)
            print(f"{weighting}: {name}")
            kill = args.epochs // 2 if name == killed else None
            starts = run_workers(weighting, folder, args.epochs, 1 if name == alone else args.workers, kill)
            loss = json.loads((folder / "logs.json").read_text())["loss"][-1]
            difference = largest_difference(folder, root / "one_process")
            worst = max(worst, difference)
            rows.append([weighting, name, str(starts), f"{loss:.6f}", f"{difference:.1e}"])
    title = f"{args.workers} workers against one process, {args.epochs} epochs"
    print_table(title, ["weighting", "run", "starts", "loss", "largest difference of a weight"], rows)
    if worst > 1e-5:
        raise SystemExit(f"The largest difference should be at most 1e-5. Received: {worst:.1e}")


if __name__ == "__main__":
    main()
