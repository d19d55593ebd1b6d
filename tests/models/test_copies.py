"""What copies keep: adapted state, constants and frozen weights always, trained weights by the caller's word."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.models._copies import as_initialized
from keras_mtl.tuning import SharingHyperModel

RNG = np.random.default_rng(0)
X = (500 + 100 * RNG.normal(size=(64, 4))).astype("float32")
MEAN, VARIANCE = X.mean(0, dtype="float64"), X.var(0, dtype="float64")
WORDS = np.array([["red"], ["blue"], ["green"], ["never seen"]], dtype=object)


def heads():
    return {"a": layers.Dense(1, name="out"), "b": layers.Dense(1, name="out")}


def adapted():
    layer = layers.Normalization(name="norm")
    layer.adapt(X)
    return layer


def trained(kind=layers.Dense, **options):
    layer = kind(4, name="fc", **options)
    layer.build((None, 4))
    for variable in layer.trainable_variables:
        variable.assign(variable + 0.25)
    return layer


def all_of(model, kind):
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


COPYING = {
    "hard_sharing": (keras_mtl.hard_sharing, {"shared_depth": 0}, 2),
    "soft_sharing": (keras_mtl.soft_sharing, {"strength": 0.0}, 2),
    "tied": (keras_mtl.soft_sharing, {}, 2),
    "branched_sharing": (keras_mtl.branched_sharing, {"branches": [[["a"], ["b"]]] * 2}, 2),
    "cross_stitch": (keras_mtl.cross_stitch, {}, 2),
    "sluice": (keras_mtl.sluice, {}, 2),
    "nddr": (keras_mtl.nddr, {}, 2),
    "mmoe": (keras_mtl.mmoe, {"experts": 3}, 3),
    "omoe": (keras_mtl.omoe, {"experts": 3}, 3),
    "dselect_k": (keras_mtl.dselect_k, {"experts": 4, "k": 2}, 4),
    "cgc": (keras_mtl.cgc, {"shared_experts": 1, "task_experts": 1}, 3),
    "ple": (keras_mtl.ple, {"shared_experts": 1, "task_experts": 1}, 3),
    "learning_to_branch": (keras_mtl.learned.learning_to_branch, {"num_branches": 2}, 2),
    "esmm": (keras_mtl.esmm, {"builder": keras_mtl.mmoe, "experts": 2}, 2),
}


@pytest.mark.parametrize("name", COPYING)
def test_every_builder_keeps_what_a_normalization_adapted_to(name):
    builder, options, copies = COPYING[name]
    first = [adapted(), layers.Dense(4, name="fc")]
    model = builder(keras.Input((4,)), [first, layers.Dense(4, name="up")], heads(), **options)
    found = all_of(model, layers.Normalization)
    assert len(found) == copies
    for layer in found:
        assert layer is not first[0]
        np.testing.assert_allclose(layer(X), (X - MEAN) / np.sqrt(VARIANCE), rtol=1e-3, atol=1e-3)
    kernels = [np.asarray(layer.kernel) for layer in all_of(model, layers.Dense) if layer.name == "fc"]
    assert len({kernel.tobytes() for kernel in kernels}) == copies  # each copy starts anew


def nested_model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Concatenate()([adapted()(inputs), layers.Dense(2)(inputs)]))


@pytest.mark.parametrize(
    "stage", [lambda: keras.Sequential([keras.Input((4,)), adapted(), layers.Dense(3)]), nested_model]
)
def test_layers_within_models_keep_it_too_also_in_a_file(stage, tmp_path):
    model = keras_mtl.hard_sharing(keras.Input((4,)), [stage()], heads(), shared_depth=0)
    model.save(tmp_path / "m.keras")
    for one in (model, keras.models.load_model(tmp_path / "m.keras")):
        found = all_of(one, layers.Normalization)
        assert len(found) == 2
        for layer in found:
            np.testing.assert_allclose(layer(X), (X - MEAN) / np.sqrt(VARIANCE), rtol=1e-3, atol=1e-3)


def lookup(mode, **options):
    layer = layers.StringLookup(output_mode=mode, **options)
    layer.adapt(np.array(["red", "blue", "green", "red"])[:, None])
    return layer


def text(mode):
    layer = layers.TextVectorization(output_mode=mode)
    layer.adapt(np.array(["red blue", "green red", "red"], dtype=object))
    return layer


def integers():
    layer = layers.IntegerLookup(output_mode="multi_hot")
    layer.adapt(np.array([[3, 7], [9, 3]]))
    return layer


def bins():
    layer = layers.Discretization(num_bins=3, output_mode="one_hot")
    layer.adapt(X[:, :1])
    return layer


def within_a_model():
    inputs = keras.Input((1,), dtype="string")
    return keras.Model(inputs, layers.Dense(2, name="fc")(lookup("one_hot")(inputs)))


ADAPTED = {
    "one_hot": (lambda: lookup("one_hot"), WORDS),
    "two places for unknown words": (lambda: lookup("count", num_oov_indices=2), WORDS),
    "tf_idf": (lambda: lookup("tf_idf"), WORDS),
    "padded tf_idf": (lambda: lookup("tf_idf", max_tokens=7, pad_to_max_tokens=True), WORDS),
    "text": (lambda: text("tf_idf"), WORDS),
    "integers": (integers, np.array([[3, 9], [7, 1]])),
    "bins": (bins, X[:8, :1]),
    "hashing": (lambda: layers.Hashing(5, output_mode="one_hot", salt=3), WORDS),
}


def inputs_like(x):
    return keras.Input(x.shape[1:], dtype={"O": "string", "i": "int64", "f": "float32"}[x.dtype.kind])


@pytest.mark.parametrize("name", ADAPTED)
def test_copies_of_lookups_look_up_the_same(name):
    make, x = ADAPTED[name]
    given = make()
    model = keras_mtl.hard_sharing(inputs_like(x), [given, layers.Dense(2)], heads(), shared_depth=0)
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, x.tolist() if x.dtype.kind == "O" else x)
    found = [layer for layer in model._flatten_layers() if type(layer) is type(given)]
    found = [layer for layer in found if layer.name == given.name]
    assert len(found) == 2 and given not in found
    for layer in found:
        np.testing.assert_allclose(layer(x), given(x), rtol=1e-6)


def test_a_vocabulary_trains_and_is_saved_in_every_column(tmp_path):
    model = keras_mtl.hard_sharing(keras.Input((1,), dtype="string"), [within_a_model()], heads(), shared_depth=0)
    model.compile("sgd", "mse", run_eagerly=True)
    words = keras.ops.convert_to_tensor(WORDS.tolist())
    model.fit(words, {"a": np.ones((4, 1)), "b": np.ones((4, 1))}, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for layer in all_of(loaded, layers.StringLookup):
        assert set(layer.get_vocabulary()) == {"[UNK]", "red", "blue", "green"}
    np.testing.assert_array_equal(loaded(words)["a"], model(words)["a"])


def test_a_lookup_that_has_not_adapted_may_adapt_later():
    given = layers.StringLookup(name="words")
    model = keras_mtl.hard_sharing(
        keras.Input((1,), dtype="string"), [[given, layers.Embedding(9, 2), layers.Flatten()]], heads(), shared_depth=0
    )
    copied = all_of(model, layers.StringLookup)[0]
    copied.adapt(np.array(["red", "blue"]))
    assert len(copied.get_vocabulary()) == 3


@keras.saving.register_keras_serializable(package="tests")
class Offset(layers.Layer):
    """A constant that the user assigns, a weight that trains, and a word in a file of its own."""

    word = "none"

    def build(self, input_shape):
        self.offset = self.add_weight(shape=(input_shape[-1],), initializer="zeros", trainable=False, name="offset")
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="factor")

    def call(self, inputs):
        return self.factor * inputs - self.offset

    def save_assets(self, folder):
        with open(f"{folder}/word.txt", "w") as file:
            file.write(self.word)

    def load_assets(self, folder):
        with open(f"{folder}/word.txt") as file:
            self.word = file.read()


def test_constants_and_assets_of_own_layers_are_kept():
    given = Offset()
    given.build((None, 4))
    given.offset.assign([1.0, 2.0, 3.0, 4.0])
    given.word = "kept"
    model = keras_mtl.mmoe(keras.Input((4,)), [[given, layers.Dense(3)]], heads(), experts=2)
    found = all_of(model, Offset)
    assert [layer.word for layer in found] == ["kept", "kept"] and given not in found
    for layer in found:
        np.testing.assert_array_equal(layer.offset, [1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("copy_weights", [None, False, True])
def test_frozen_weights_are_kept_whatever_the_option_says(copy_weights):
    vectors = layers.Embedding(6, 3, trainable=False, name="vectors")
    vectors.build((None, 4))
    vectors.set_weights([RNG.normal(size=(6, 3))])
    model = keras_mtl.hard_sharing(
        keras.Input((4,), dtype="int32"),
        [[vectors, layers.Flatten()]],
        heads(),
        shared_depth=0,
        copy_weights=copy_weights,
    )
    for layer in all_of(model, layers.Embedding):
        np.testing.assert_array_equal(layer.embeddings, vectors.embeddings)
        assert not layer.trainable


def test_frozen_weights_that_nobody_set_are_drawn_anew():
    """Random features: equal ones in every column would be one column's."""
    features = layers.Dense(5, trainable=False)
    features.build((None, 4))
    model = keras_mtl.hard_sharing(keras.Input((4,)), [features], heads(), shared_depth=0)
    first, second = (layer.kernel for layer in all_of(model, layers.Dense) if layer.units == 5)
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 0


def test_trained_weights_are_kept_reset_or_refused():
    build = functools.partial(keras_mtl.hard_sharing, shared_depth=0)
    with pytest.raises(ValueError, match=r"`copy_weights` should be True or False .* layer 'fc' of `stages.0.`"):
        build(keras.Input((4,)), [trained()], heads())
    given = trained()
    for copy_weights, same in ((True, True), (False, False)):
        model = build(keras.Input((4,)), [given], heads(), copy_weights=copy_weights)
        kernels = [np.asarray(layer.kernel) for layer in all_of(model, layers.Dense) if layer.name == "fc"]
        assert [np.array_equal(kernel, given.kernel) for kernel in kernels] == [same, same]
        assert np.array_equal(*kernels) == same
    shared = keras_mtl.hard_sharing(keras.Input((4,)), [given], heads())  # no copy, nothing to lose
    assert any(v is given.kernel for v in shared.shared_variables)


@pytest.mark.parametrize("name", COPYING)
def test_every_builder_refuses_to_lose_trained_weights(name):
    builder, options, copies = COPYING[name]
    with pytest.raises(ValueError, match=r"`copy_weights` should be True or False.*Received: copy_weights=None"):
        builder(keras.Input((4,)), [layers.Dense(4), trained()], heads(), **options)
    if name == "esmm":
        return
    given = trained()
    model = builder(keras.Input((4,)), [layers.Dense(4), given], heads(), **options, copy_weights=True)
    kernels = [np.asarray(layer.kernel) for layer in all_of(model, layers.Dense) if layer.name == "fc"]
    assert len(kernels) == copies and all(np.array_equal(kernel, given.kernel) for kernel in kernels)


def test_moving_statistics_go_with_the_weights_that_made_them():
    norm = layers.BatchNormalization(name="norm", center=False, scale=False)
    norm.build((None, 4))
    norm.moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match=r"layer 'norm' of `stages.0.` has such weights"):
        keras_mtl.hard_sharing(keras.Input((4,)), [norm], heads(), shared_depth=0)
    for copy_weights, mean in ((True, [1.0, 2.0, 3.0, 4.0]), (False, [0.0] * 4)):
        model = keras_mtl.hard_sharing(keras.Input((4,)), [norm], heads(), shared_depth=0, copy_weights=copy_weights)
        for layer in all_of(model, layers.BatchNormalization):
            np.testing.assert_array_equal(layer.moving_mean, mean)
    norm.trainable = False
    model = keras_mtl.hard_sharing(keras.Input((4,)), [norm], heads(), shared_depth=0)
    np.testing.assert_array_equal(all_of(model, layers.BatchNormalization)[0].moving_mean, norm.moving_mean)


def test_a_loaded_stage_counts_as_trained(tmp_path):
    stage = keras.Sequential([keras.Input((4,)), layers.Dense(4)], name="pretrained")
    keras_mtl.hard_sharing(keras.Input((4,)), [stage], heads(), shared_depth=0)  # built, but as it was drawn
    stage.save(tmp_path / "stage.keras")
    loaded = keras.models.load_model(tmp_path / "stage.keras")
    with pytest.raises(ValueError, match=r"layer 'pretrained' of `stages.0.` has such weights"):
        keras_mtl.hard_sharing(keras.Input((4,)), [loaded], heads(), shared_depth=0)


KINDS = {
    "dense": lambda: layers.Dense(3),
    "orthogonal": lambda: layers.Dense(3, kernel_initializer="orthogonal"),
    "constant": lambda: layers.Dense(3, kernel_initializer=keras.initializers.Constant(0.5)),
    "float16": lambda: layers.Dense(3, dtype="float16"),
    "convolution": lambda: layers.Conv1D(3, 2),
    "separable": lambda: layers.SeparableConv1D(3, 2),
    "lstm": lambda: layers.LSTM(3),
    "both ways": lambda: layers.Bidirectional(layers.LSTM(3)),
    "gru": lambda: layers.GRU(3),
    "cells": lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
    "normalizations": lambda: keras.Sequential([layers.LayerNormalization(), layers.RMSNormalization()]),
    "batch": lambda: layers.BatchNormalization(),
    "einsum": lambda: layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"),
    "spectral": lambda: layers.SpectralNormalization(layers.Dense(3)),
}


@pytest.mark.parametrize("kind", [*KINDS, "attention", "embedding", "convlstm"])
def test_what_is_trained_is_told_from_what_is_drawn(kind):
    shape = (None, 6, 4)
    if kind == "attention":
        layer = layers.MultiHeadAttention(2, 4)
        layer.build(shape, shape)
    elif kind == "embedding":
        layer = layers.Embedding(5, 3)
        layer.build((None, 4))
    elif kind == "convlstm":
        layer = layers.ConvLSTM1D(3, 2)
        layer.build((None, 3, 6, 2))
    else:
        layer = KINDS[kind]()
        assert as_initialized(layer)  # nothing is built, nothing to lose
        layer.build(shape)
    assert as_initialized(layer)
    for variable in layer.trainable_variables:
        before = np.asarray(variable)
        variable.assign(
            variable + keras.ops.cast(np.linspace(0.01, 0.02, before.size).reshape(before.shape), variable.dtype)
        )
        assert not as_initialized(layer), variable.path
        variable.assign(before)
    assert as_initialized(layer)


def test_layers_before_gates_and_in_the_place_of_task_stages_keep_their_state_too():
    stages = [layers.Dense(4, name="low"), layers.Dense(4, name="high")]
    model = keras_mtl.mmoe(keras.Input((4,)), stages, heads(), experts=2, gate=adapted())
    np.testing.assert_allclose(all_of(model, layers.Normalization)[1].mean[0], MEAN, rtol=1e-4)
    model = keras_mtl.mtan(keras.Input((4,)), [layers.Dense(4)], heads(), task_stage=[adapted(), layers.Dense(3)])
    np.testing.assert_allclose(all_of(model, layers.Normalization)[1].mean[0], MEAN, rtol=1e-4)
    dependency = keras_mtl.Dependency("a", take="features", through=adapted())
    given = {"a": [layers.Dense(4), layers.Dense(1)], "b": layers.Dense(1)}
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3)], given, depends_on={"b": dependency})
    np.testing.assert_allclose(all_of(model, layers.Normalization)[0].mean[0], MEAN, rtol=1e-4)
    with pytest.raises(ValueError, match=r"`gate` should have no trained or loaded weights.*layer 'fc'"):
        keras_mtl.mmoe(keras.Input((4,)), [layers.Dense(3)], heads(), experts=2, gate=trained())
    with pytest.raises(ValueError, match=r"`task_stage` should have no trained or loaded weights.*layer 'fc'"):
        keras_mtl.mtan(keras.Input((4,)), [layers.Dense(4)], heads(), task_stage=trained())


def test_thin_stages_keep_what_their_inputs_are_adapted_to():
    wide = [adapted(), layers.Dense(8, name="wide")]
    wide[1].build((None, 4))
    thin = keras_mtl.models.thin_stages(keras.Input((4,)), wide, keep=0.5)
    np.testing.assert_allclose(thin[0][0](X), (X - MEAN) / np.sqrt(VARIANCE), rtol=1e-3, atol=1e-3)
    assert thin[1][0].kernel.shape == (4, 4)


def test_trees_that_are_learned_keep_it():
    stages = [[adapted(), layers.Dense(4, name="low")], layers.Dense(4, name="high")]
    model = keras_mtl.learned.learning_to_branch(keras.Input((4,)), stages, heads())
    extracted = keras_mtl.learned.extract_branches(model)
    y = {"a": np.ones(64), "b": np.ones(64)}
    errors = {"a": np.arange(64.0), "b": np.arange(64.0)[::-1]}  # what one finds difficult the other does not
    grown, tree = keras_mtl.learned.branch_by_affinity(
        keras.Input((4,)),
        stages,
        heads(),
        train=lambda model: None,
        validation_data=(X, y),
        branch_cost=0.0,
        errors=lambda model, x, y: errors,
    )
    assert tree == [[["a"], ["b"]], [["a"], ["b"]]]
    for one in (extracted, grown):
        assert all_of(one, layers.Normalization)
        for layer in all_of(one, layers.Normalization):
            np.testing.assert_allclose(layer.mean[0], MEAN, rtol=1e-4)


class TestSearches:
    def build(self, stages, depth=0, values=None, **options):
        import keras_tuner

        hypermodel = SharingHyperModel(
            keras.Input((4,)), stages, heads(), compile={"loss": "mse"}, sharing={"depths": (depth, depth)}, **options
        )
        return hypermodel.build(keras_tuner.HyperParameters())

    @pytest.mark.parametrize("depth", [0, 1])
    def test_trials_keep_what_stages_are_adapted_to(self, depth):
        model = self.build([[adapted(), layers.Dense(4)]], depth)
        found = all_of(model, layers.Normalization)
        assert len(found) == 2 - depth
        for layer in found:
            np.testing.assert_allclose(layer.mean[0], MEAN, rtol=1e-4)

    def test_the_rule_is_that_of_builders(self):
        with pytest.raises(ValueError, match=r"`copy_weights` should be True or False"):
            self.build([trained()])
        given = trained()
        for options, kept in (({"depth": 1}, 1), ({"copy_weights": True}, 2), ({"copy_weights": False}, 0)):
            model = self.build([given], **options)
            kernels = [layer.kernel for layer in all_of(model, layers.Dense) if layer.name == "fc"]
            assert sum(np.array_equal(kernel, given.kernel) for kernel in kernels) == kept

    def test_built_stages_that_nobody_trained_start_anew_in_every_copy(self):
        stage = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc")])
        model = self.build([stage])
        first, second = (layer.kernel for layer in all_of(model, layers.Dense) if layer.name == "fc")
        assert np.abs(np.asarray(first) - np.asarray(second)).max() > 0
