"""Where a mixture is can be saved, and training goes on there."""

import copy
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import data
from keras_mtl.data import mix
from tests.rows import by_default


def make(sampler=None, **options):
    def shuffled(count, seed):
        values = np.arange(count, dtype="float32")[:, None]
        return tf.data.Dataset.from_tensor_slices((values, values)).shuffle(count, seed=seed)

    options = {"batch_size": 2, "stop": 5, "inputs": "own", "seed": 1, **options}
    return mix({"a": shuffled(11, 1), "b": shuffled(7, 2)}, sampler, **options)


def read(batches):
    return [[y[task].numpy().ravel().tolist() for task in "ab"] for _, y in batches]


@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.parametrize(
    "sampler",
    [None, "uniform", "round_robin", data.Annealed(3), "loss_ratio"],
    ids=lambda s: s if isinstance(s, str) else type(s).__name__,
)
def test_goes_on_from_a_saved_position(sampler, ahead, tmp_path):
    mixture = make(sampler, ahead=ahead)
    read(mixture)
    iterator = iter(mixture)
    read(next(iterator) for _ in range(3))  # in the middle of an epoch
    mixture.save_position(tmp_path / "here")
    rest = [read(next(iterator) for _ in range(2)), read(mixture), read(mixture)]

    again = make(sampler, ahead=ahead)
    again.restore_position(tmp_path / "here")
    found = read(again) + read(again) + read(again)  # a new iteration has 5 steps
    assert found[:12] == [batch for part in rest for batch in part]
    if sampler is not None:
        assert again.stats.counts.sum() >= 17


def test_position_is_part_of_any_checkpoint(tmp_path):
    mixture = make("uniform")
    read(mixture)
    checkpoint = tf.train.Checkpoint(data=mixture.position, weight=tf.Variable(3.0))
    path = checkpoint.write(str(tmp_path / "all"))
    expected = read(mixture)
    read(mixture)
    checkpoint.read(path).assert_consumed()
    assert read(mixture) == expected


def test_generators_have_no_position(tmp_path):
    generated = tf.data.Dataset.from_generator(
        lambda: ((np.ones(1), np.ones(1)) for _ in range(9)), output_signature=(tf.TensorSpec((1,)),) * 2
    )
    mixture = mix({"a": generated}, batch_size=2, stop=3)
    list(mixture)
    with pytest.raises(ValueError, match="should be able to say where they are"):
        mixture.save_position(tmp_path / "here")
    with pytest.raises(ValueError, match="begins anew every time"):
        make(stop="once").save_position(tmp_path / "here")
    with pytest.raises(ValueError, match="begins anew every time"):
        data.BackupPosition(make(stop="once"), tmp_path)
    with pytest.raises(ValueError, match="`mixture` should be what"):
        data.BackupPosition(generated, tmp_path)
    model = keras_mtl.hard_sharing(keras.Input((1,)), [], {"a": keras.layers.Dense(1)})
    model.compile("sgd", "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="should be able to say where they are"):  # before an epoch's work is lost
        model.fit(mixture, callbacks=[data.BackupPosition(mixture, tmp_path), NoBatch()], verbose=0)
    assert list(tmp_path.iterdir()) == []


class NoBatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise AssertionError


def other_data(count):
    values = np.zeros((count, 1), "float32")
    return tf.data.Dataset.from_tensor_slices((values, values)).shuffle(count, seed=1)


OTHERS = {
    r"its tasks: \['a', 'b'\] there, \['a', 'c'\] here": lambda: mix(
        {"a": other_data(11), "c": other_data(7)}, "uniform", batch_size=2, stop=5, inputs="own"
    ),
    "its sampler: Uniform there, RoundRobin here": lambda: make("round_robin"),
    "`batch`: interleave there, joint here": lambda: make(),
    "`batch_size` of task 'b': 2 there, 3 here": lambda: make("uniform", batch_size={"a": 2, "b": 3}),
    "the number of examples of task 'a': 11 there, 10 here": lambda: mix(
        {"a": other_data(10), "b": other_data(7)}, "uniform", batch_size=2, stop=5, inputs="own"
    ),
    "the examples of task 'a'": lambda: mix(
        {"a": other_data(11).map(lambda x, y: (x[0], y)).map(lambda x, y: (x[None, None], y)), "b": other_data(7)},
        "uniform",
        batch_size=2,
        stop=5,
        inputs="own",
    ),
}


@pytest.mark.parametrize("says", OTHERS)
def test_another_mixtures_position_is_refused(says, tmp_path):
    mixture = make("uniform")
    mixture.save_position(tmp_path / "here")
    other = OTHERS[says]()
    with pytest.raises(ValueError, match=says):
        other.restore_position(tmp_path / "here")
    with pytest.raises(ValueError, match=says):
        tf.train.Checkpoint(position=other.position).read(str(tmp_path / "here"))


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "half", "another checkpoint"])
def test_what_is_no_position_is_refused(damage, tmp_path):
    mixture, path = make("uniform"), str(tmp_path / "here")
    expected = read(make("uniform"))
    if damage == "another checkpoint":
        tf.train.Checkpoint(v=tf.Variable(1.0)).write(path)
    elif damage != "missing":
        mixture.save_position(path)
        index = tmp_path / "here.index"
        content = index.read_bytes()
        index.write_bytes({"empty": b"", "garbage": b"garbage" * 20, "half": content[: len(content) // 2]}[damage])
    with pytest.raises(ValueError, match=r"`path` should be where `save_position` has written.*here"):
        mixture.restore_position(path)
    assert read(mixture) == expected


def build(**options):
    keras.utils.set_random_seed(0)
    heads = {task: keras.layers.Dense(1) for task in "ab"}
    model = keras_mtl.own_inputs(keras_mtl.hard_sharing(keras.Input((1,)), [keras.layers.Dense(2)], heads))
    model.compile(keras.optimizers.Adam(0.01), loss="mse", **options)
    return model


class Kill(keras.callbacks.Callback):
    """Ends the process, as far as `fit` can tell, in the middle of an epoch."""

    def __init__(self, at=2):
        super().__init__()
        self.at = at

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch == 2:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def backups(order, mixture, folder):
    """Callbacks that back up: the mixture's alone, or with Keras' own after or before it."""
    own, stock = data.BackupPosition(mixture, folder / "data"), keras.callbacks.BackupAndRestore(folder / "model")
    return {"alone": [own], "first": [own, stock], "last": [stock, own]}[order]


LIVE = data.UA4C({"a": 1.0, "b": 1.0}, monitor="{task}_loss")
quiet = pytest.mark.filterwarnings("ignore:Task '.' was never drawn:UserWarning")


@quiet
@pytest.mark.parametrize("order", by_default(["first"], ["alone", "first"]))
@pytest.mark.parametrize(
    "sampler",
    # One that reads losses and has a state of its own stands for one that reads losses.
    by_default([None, LIVE], [None, "loss_ratio", LIVE]),
)
def test_killed_training_ends_as_if_it_had_not_been(sampler, order, tmp_path):
    whole = build(run_eagerly=True)
    whole.fit(make(sampler), epochs=3, verbose=0)

    mixture = make(sampler)
    callbacks = [*backups(order, mixture, tmp_path), Kill(1)]
    with pytest.raises(KeyboardInterrupt):
        build(run_eagerly=True).fit(mixture, epochs=3, callbacks=callbacks, verbose=0)
    model, mixture = build(run_eagerly=True), make(sampler)
    model.fit(mixture, epochs=3, callbacks=backups(order, mixture, tmp_path), verbose=0)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(tmp_path.iterdir()) == []


@functools.cache
def whole_weights(epochs):
    model = build(run_eagerly=True)
    model.fit(make("loss_ratio", stop=2), epochs=epochs, verbose=0)
    return model.get_weights()


class Moments:
    """Copies of a folder as a kill would leave it, before and after everything that changes files."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.taken, self.open = folder, [], False
        for owner, name in (
            (os, "replace"),
            (os, "mkdir"),
            (os, "unlink"),
            (os, "rmdir"),
            (data.Mixture, "save_position"),
            (keras_mtl.MultiTaskModel, "save_weights"),
        ):
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name), name))

    def _watched(self, run, name):
        def watched(*args, **kwargs):
            self.take(f"before {name}")
            result = run(*args, **kwargs)
            self.take(f"after {name}")
            return result

        return watched

    def take(self, name):
        if self.open:
            self.open = False  # copying makes folders too
            target = self.folder.with_name(f"moment-{len(self.taken)}")
            shutil.copytree(self.folder, target)
            content = sorted((str(p.relative_to(target)), p.is_file() and p.read_bytes()) for p in target.rglob("*"))
            if not self.taken or content != self.taken[-1][2]:
                self.taken.append((name, target, content))
            else:
                shutil.rmtree(target)
            self.open = True


class Watch(keras.callbacks.Callback):
    """Has the moments of one epoch's end taken."""

    def __init__(self, moments, begins):
        super().__init__()
        self.moments, self.begins = moments, begins

    def on_epoch_end(self, epoch, logs=None):
        self.moments.open = self.begins and epoch == 1

    def on_train_end(self, logs=None):
        self.moments.open = self.begins


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("every", [6, 1])
@pytest.mark.parametrize("order", ["alone", "first", "last"])
def test_a_kill_at_any_moment_changes_nothing(order, every, tmp_path, monkeypatch):
    """At the end of the second epoch, and of the training; between callbacks and between their files."""
    folder = tmp_path / "backup"
    folder.mkdir()
    model, mixture = build(run_eagerly=True), make("loss_ratio", stop=2)
    with monkeypatch.context() as patch:
        moments = Moments(folder, patch)
        callbacks = [Watch(moments, True), *backups(order, mixture, folder), Watch(moments, False)]
        if order == "first":  # what Keras' own removes half is its own
            callbacks[2].on_train_end = lambda logs=None: None
        model.fit(mixture, epochs=3, callbacks=callbacks, verbose=0)
        moments.open = False
    assert len(moments.taken) >= 10
    for name, target, _ in moments.taken[::every]:
        model, mixture = build(run_eagerly=True), make("loss_ratio", stop=2)
        model.fit(mixture, epochs=3, callbacks=backups(order, mixture, target), verbose=0)
        for one, other in zip(model.get_weights(), whole_weights(3), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"killed {name}, {target.name}")


def test_backups_that_do_not_fit_are_refused(tmp_path):
    mixture, callback = make("uniform"), functools.partial(data.BackupPosition, backup_dir=tmp_path)
    model = build(run_eagerly=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(mixture, epochs=4, callbacks=[callback(mixture), Kill()], verbose=0)
    states = json.loads((tmp_path / "states.json").read_text())
    assert list(states) == ["1", "2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*states.values(), "states.json"])

    other = make("round_robin")
    with pytest.raises(ValueError, match="its sampler: Uniform there, RoundRobin here"):
        model.fit(other, callbacks=[callback(other)], verbose=0)

    class Elsewhere(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model._initial_epoch = 7

    with pytest.raises(ValueError, match=r"begins, 7\. Received: backup_dir=.* with epochs \[1, 2\]"):
        model.fit(mixture, epochs=9, callbacks=[callback(mixture), Elsewhere()], verbose=0)
    for damage in (b"", b"{", b"[1]", b'{"one": 1}'):
        (tmp_path / "states.json").write_bytes(damage)
        with pytest.raises(ValueError, match=r"states\.json.*damaged"):
            model.fit(mixture, callbacks=[callback(mixture)], verbose=0)


def test_a_used_callback_is_copied_for_another_training(tmp_path):
    mixture, model = make("uniform"), build(run_eagerly=True)
    used = data.BackupPosition(mixture, tmp_path / "backup")
    model.fit(mixture, epochs=1, callbacks=[used], verbose=0)
    model.fit(mixture, epochs=1, callbacks=[copy.deepcopy(used)], verbose=0)
    assert not pathlib.Path(used.backup_dir).exists()


KILLS = """
import os, pathlib, random, signal, sys, time
import numpy as np
import tests.data.test_position as t

def child(folder, order, begun):
    # TensorFlow has only been imported by now, so that it starts anew in the fork.
    model, mixture = t.build(run_eagerly=True), t.make("loss_ratio", stop=3)
    callbacks = [] if order is None else t.backups(order, mixture, folder)
    os.write(begun, b"x")
    model.fit(mixture, epochs=6, callbacks=callbacks, verbose=0)
    np.savez(folder.with_suffix(".npz"), *model.get_weights())

def start(folder, order):
    ready, begun = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            child(folder, order, begun)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(begun)
    os.read(ready, 1)
    os.close(ready)
    return process, time.monotonic()

def end(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def weights(folder):
    with np.load(folder.with_suffix(".npz")) as file:
        return [file[name] for name in file.files]

root, rng = pathlib.Path(sys.argv[1]), random.Random(0)
process, began = start(root / "whole", "alone")
assert end(process) == 0
length, good, killed, turn = time.monotonic() - began, weights(root / "whole"), 0, 0
while killed < int(sys.argv[2]) or turn < 2:
    turn += 1
    order, folder, more = ("alone", "last")[turn % 2], root / str(turn), True
    while more:  # what a kill leaves goes on, and is killed again, until it ends
        process, began = start(folder, order)
        if killed < int(sys.argv[2]):
            time.sleep(rng.uniform(0.1, 1.1) * length)
            os.kill(process, signal.SIGKILL)
        status = end(process)
        more = status == -signal.SIGKILL
        killed += more
        assert more or status == 0, f"turn {turn}, {order}: could not go on"
    for one, other in zip(weights(folder), good, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"turn {turn}, {order}")
print("trainings", turn, "killed", killed)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="forks and kills")
def test_forty_kills_at_random_moments_change_nothing(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", KILLS, str(tmp_path), "40"]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == "40"
