"""What plain Keras cannot do either: each limit that the contract table names, on a plain `keras.Model`.

A test that fails here says that Keras has learned it: the table and docs/guide/distribution.md can be shortened.
"""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


def plain(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), *options.pop("layers", [keras.layers.Dense(1)])])
    model.compile("sgd", "mse", **{"jit_compile": False, **options})
    return model


def batches():
    return tf.data.Dataset.from_tensor_slices((X, X[:, :1])).batch(4)


@pytest.mark.slow
def test_replicas_take_one_step_per_execution(mirrored_strategy):
    with mirrored_strategy.scope():
        model = plain(steps_per_execution=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value for placeholder"):
        model.fit(batches(), verbose=0)


@pytest.mark.slow
def test_replicas_on_cpu_devices_are_not_compiled_by_xla(mirrored_strategy):
    with mirrored_strategy.scope():
        model = plain(jit_compile=True)
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)):
        model.fit(batches(), verbose=0)


@pytest.mark.slow
def test_loss_scaling_looks_at_the_first_replica_alone(mirrored_strategy):
    """Keras applies what the second one has lost to overflow. Our own models do not: see test_modes.py."""
    with mirrored_strategy.scope():
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**100)
        model = plain()
        model.compile(optimizer, "mse", jit_compile=False)
    x = X.copy()
    x[[2, 3]] = 1e15  # the second half of the first batch: 2 ** 100 * 1e15 ** 2 is more than float32 holds
    model.fit(tf.data.Dataset.from_tensor_slices((x, X[:, :1])).batch(4), verbose=0)
    assert not all(np.isfinite(w).all() for w in model.get_weights())


def test_seeds_are_not_saved(tmp_path):
    model = plain(layers=[keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.fit(X, X[:, :1], verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    seeds = [[v.numpy() for v in m.variables if "seed" in v.path] for m in (model, loaded)]
    assert len(seeds[0]) == len(seeds[1]) == 1
    assert not np.array_equal(seeds[0][0], seeds[1][0])


def test_xla_draws_other_numbers():
    seed = tf.constant([1, 2])
    draw = lambda: tf.random.stateless_uniform((4,), seed)  # noqa: E731
    assert not np.allclose(tf.function(draw)(), tf.function(draw, jit_compile=True)())


@pytest.mark.slow
def test_batch_normalization_takes_the_statistics_of_its_replica(mirrored_strategy):
    layers = lambda: [keras.layers.BatchNormalization(), keras.layers.Dense(1)]  # noqa: E731
    single = plain(layers=layers())
    with mirrored_strategy.scope():
        double = plain(layers=layers())
    double.set_weights(single.get_weights())
    for model in (single, double):
        model.fit(batches(), verbose=0)
    differences = [np.abs(v - w).max() for v, w in zip(single.get_weights(), double.get_weights(), strict=True)]
    assert max(differences) > 1e-4


def test_backup_writes_weights_and_epoch_one_after_the_other(tmp_path, monkeypatch):
    """Killed in between, it goes on from new weights at an old epoch, which is then trained twice."""

    class Dies(keras.callbacks.BackupAndRestore):
        def _save_model(self):
            dump = json.dumps
            if self._current_epoch == 2:
                monkeypatch.setattr(json, "dumps", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            try:
                super()._save_model()
            finally:
                monkeypatch.setattr(json, "dumps", dump)

    with pytest.raises(KeyboardInterrupt):
        plain().fit(X, X[:, :1], epochs=3, verbose=0, callbacks=[Dies(tmp_path)])
    metadata = tmp_path / "training_metadata.json"
    if metadata.read_text():  # it was truncated: a kill a moment earlier would have left the old one
        assert json.loads(metadata.read_text())["epoch"] == 1
    metadata.write_text(json.dumps({"epoch": 1, "batch": 0}))
    model = plain()
    history = model.fit(X, X[:, :1], epochs=3, verbose=0, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert len(history.history["loss"]) == 2
    assert int(model.optimizer.iterations) == 4  # of 3
