"""Where a mixture is can be saved, and training goes on there."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import data
from keras_mtl.data import mix


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


def build():
    keras.utils.set_random_seed(0)
    heads = {task: keras.layers.Dense(1) for task in "ab"}
    model = keras_mtl.own_inputs(keras_mtl.hard_sharing(keras.Input((1,)), [keras.layers.Dense(2)], heads))
    model.compile(keras.optimizers.Adam(0.01), loss="mse")
    return model


class Kill(keras.callbacks.Callback):
    """Ends the process, as far as `fit` can tell, in the middle of the third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 2:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def backup(mixture, folder):
    return [data.BackupPosition(mixture, folder / "data"), keras.callbacks.BackupAndRestore(folder / "model")]


@pytest.mark.parametrize("sampler", [None, "loss_ratio", data.UA4C({"a": 1.0, "b": 1.0}, monitor="{task}_loss")])
def test_killed_training_ends_as_if_it_had_not_been(sampler, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Task '.' was never drawn")
        whole = build()
        whole.fit(make(sampler), epochs=4, verbose=0)

        mixture = make(sampler)
        with pytest.raises(KeyboardInterrupt):
            build().fit(mixture, epochs=4, callbacks=[*backup(mixture, tmp_path), Kill()], verbose=0)
        model, mixture = build(), make(sampler)
        model.fit(mixture, epochs=4, callbacks=backup(mixture, tmp_path), verbose=0)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / "data").exists()
