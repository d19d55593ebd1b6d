"""Parameter counts by formula, bad input, and stages of every kind."""

import keras
import numpy as np
import pytest

import keras_mtl

D, H, C, K = 5, 6, 4, 3  # inputs, widths of two stages, tasks
TASKS = ("a", "b", "c")
LOW, HIGH = D * H + H, H * C + C
HEADS = K * (C + 1)


def stages():
    return [keras.layers.Dense(H, name="low"), keras.layers.Dense(C, name="high")]


def heads(tasks=TASKS):
    return {task: keras.layers.Dense(1) for task in tasks}


def build(builder, given=None, **options):
    return builder(keras.Input((D,)), given or stages(), heads(), **options)


COUNTS = [
    (keras_mtl.hard_sharing, {}, LOW + HIGH + HEADS),
    (keras_mtl.soft_sharing, {}, K * (LOW + HIGH) + HEADS),
    (keras_mtl.cross_stitch, {}, K * (LOW + HIGH) + HEADS + K * K * (H + C)),
    (keras_mtl.cross_stitch, {"per": "layer"}, K * (LOW + HIGH) + HEADS + K * K * 2),
    (keras_mtl.sluice, {"layer_stitch": False}, K * (LOW + HIGH) + HEADS + 2 * (2 * K) ** 2),
    (keras_mtl.nddr, {}, K * (LOW + HIGH) + HEADS + K * (K * H * H + H) + K * (K * C * C + C)),
    (keras_mtl.mmoe, {"experts": 4}, 4 * (LOW + HIGH) + HEADS + K * D * 4),
    (keras_mtl.mmoe, {"experts": 4, "shared_depth": 1}, LOW + 4 * HIGH + HEADS + K * H * 4),
    (keras_mtl.omoe, {"experts": 4}, 4 * (LOW + HIGH) + HEADS + D * 4),
    (
        keras_mtl.cgc,
        {"shared_experts": 1, "task_experts": {"a": 0, "b": 1, "c": 2}},
        4 * (LOW + HIGH) + HEADS + D * (2 + 3),
    ),
    (
        keras_mtl.ple,
        {"shared_experts": 1, "task_experts": 1},
        (K + 1) * (LOW + HIGH) + HEADS + K * D * 2 + D * (K + 1) + K * H * 2,
    ),
    (keras_mtl.dselect_k, {"experts": 4, "k": 2}, 4 * (LOW + HIGH) + HEADS + K * (2 * 2 + 2)),
    (
        keras_mtl.dselect_k,
        {"experts": 4, "k": 2, "per_example": True},
        4 * (LOW + HIGH) + HEADS + K * (D + 1) * (2 * 2 + 2),
    ),
    (
        keras_mtl.mtan,
        {"batch_normalization": False},
        LOW + HIGH + HEADS + K * ((H * H + H) * 2 + (H * H + H)) + K * ((C + H) * C + C + (C * C + C) * 2),
    ),
    (keras_mtl.branched_sharing, {"branches": [[["a", "b", "c"]], [["c", "a"], ["b"]]]}, LOW + 2 * HIGH + HEADS),
]


@pytest.mark.parametrize(("builder", "options", "count"), COUNTS)
def test_count(builder, options, count):
    assert build(builder, **options).count_params() == count


class NoConfig(keras.layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def call(self, x):
        return x


BAD = [
    (keras_mtl.branched_sharing, {"branches": [[["a", "b"], ["c"]]]}, "one entry for each of the 2 stages"),
    (keras_mtl.branched_sharing, {"branches": [[["a", "b"]], [["a"], ["b"]]]}, "hold every task"),
    (keras_mtl.branched_sharing, {"branches": [[["a", "b", "c"]], [["a", "b"], ["b", "c"]]]}, "hold every task"),
    (keras_mtl.branched_sharing, {"branches": [["a", "b", "c"], [["a"], ["b"], ["c"]]]}, "list of groups"),
    (keras_mtl.branched_sharing, {"branches": [[["a", "b"], ["c"]], [["a", "b", "c"]]]}, "parted should not"),
    (keras_mtl.branched_sharing, {"branches": [[["a", "b"], ["c"]], [["a"], ["b", "c"]]]}, "parted should not"),
    (keras_mtl.mmoe, {"experts": 0}, "`experts` should be"),
    (keras_mtl.mmoe, {"shared_depth": 2}, "left for the experts"),
    (keras_mtl.mmoe, {"gate_temperature": 0.0}, "`gate_temperature`"),
    (keras_mtl.mmoe, {"gate_dropout": 1.0}, "`gate_dropout`"),
    (keras_mtl.omoe, {"experts": -1}, "`experts` should be"),
    (keras_mtl.dselect_k, {"experts": 2, "k": 3}, "`k` should be"),
    (keras_mtl.dselect_k, {"experts": 0}, "`experts` should be"),
    (keras_mtl.cgc, {"shared_experts": 0, "task_experts": {"a": 1, "b": 1, "c": 0}}, "Task 'c' should have"),
    (keras_mtl.cgc, {"task_experts": {"a": 1}}, "keys of `task_experts`"),
    (keras_mtl.ple, {"shared_experts": -1}, "`shared_experts` should be"),
    (keras_mtl.cross_stitch, {"per": "pixel"}, "`per` should be"),
    (keras_mtl.cross_stitch, {"self_weight": "much"}, "`self_weight` should be"),
    (keras_mtl.sluice, {"subspaces": 3, "layer_stitch": False}, "divisible by `subspaces`"),
    (keras_mtl.sluice, {}, "one shape"),
    (keras_mtl.sluice, {"orthogonality": -1}, "`orthogonality`"),
    (keras_mtl.soft_sharing, {"strength": -1}, "`strength`"),
    (keras_mtl.soft_sharing, {"strength": [0.1]}, "list of 2"),
    (keras_mtl.soft_sharing, {"distance": "l1"}, "`distance`"),
    (keras_mtl.soft_sharing, {"normalization": "cp"}, "`normalization`"),
    (keras_mtl.cross_stitch, {"copy_weights": True}, "not built"),
]


@pytest.mark.parametrize(("builder", "options", "message"), BAD)
def test_bad_input(builder, options, message):
    with pytest.raises(ValueError, match=message):
        build(builder, **options)


@pytest.mark.parametrize(
    ("builder", "options"),
    [(keras_mtl.soft_sharing, {}), (keras_mtl.cross_stitch, {}), (keras_mtl.mmoe, {}), (keras_mtl.ple, {})],
)
def test_stages_that_cannot_be_copied(builder, options):
    with pytest.raises(ValueError, match="from its config"):
        build(builder, [NoConfig(3)], **options)


def test_units_across_columns_of_different_shape():
    for unit in (
        keras_mtl.layers.CrossStitch(0),
        keras_mtl.layers.SubspaceStitch(0),
        keras_mtl.layers.NDDR(0),
        keras_mtl.layers.LayerStitch(),
    ):
        with pytest.raises(ValueError, match="one shape"):
            unit([np.ones((2, 4)), np.ones((2, 6))])
    with pytest.raises(ValueError, match="one shape"):
        keras_mtl.layers.ExpertMixture()([np.ones((2, 2)), np.ones((2, 4)), np.ones((2, 6))])


def test_a_stage_that_returns_several_tensors_cannot_be_stitched():
    lstm = keras.layers.LSTM(4, return_state=True)
    with pytest.raises(ValueError, match=r"`stages.0.` should return one tensor, which the columns exchange"):
        keras_mtl.cross_stitch(keras.Input((5, 3)), [lstm], heads())


def test_gates_need_features():
    with pytest.raises(ValueError, match="`gate=`"):
        keras_mtl.mmoe(keras.Input((None, 3)), [keras.layers.LSTM(4)], heads())
    model = keras_mtl.mmoe(
        keras.Input((None, 3)),
        [keras.layers.LSTM(4)],
        heads(),
        experts=2,
        gate=keras.layers.GlobalAveragePooling1D(),
    )
    assert model.sharing_coefficients(np.ones((2, 7, 3)))["a/gate"].shape == (2,)


def test_coefficients_that_depend_on_examples_need_some():
    with pytest.raises(ValueError, match="`x` should be given"):
        build(keras_mtl.mmoe, experts=2).sharing_coefficients()


KINDS = {
    "conv": ((8, 8, 2), [keras.layers.Conv2D, {"filters": 4, "kernel_size": 3, "padding": "same"}]),
    "recurrent": ((6, 4), [keras.layers.GRU, {"units": 4, "return_sequences": True}]),
    "sequence": ((6, 4), [keras.layers.Conv1D, {"filters": 4, "kernel_size": 3, "padding": "same"}]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_mtl.soft_sharing, {"distance": "trace_norm", "normalization": "tucker"}),
        (keras_mtl.cross_stitch, {}),
        (keras_mtl.sluice, {}),
        (keras_mtl.nddr, {}),
        (keras_mtl.mtan, {}),
        (keras_mtl.mmoe, {"experts": 2}),
        (keras_mtl.ple, {"shared_experts": 1, "task_experts": 1}),
        (keras_mtl.dselect_k, {"experts": 2}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_stages_of_other_kinds(builder, options, kind):
    shape, (layer, config) = KINDS[kind]
    model = builder(keras.Input(shape), [layer(**config), layer(**config)], heads(("a", "b")), **options)
    out = model(np.ones((2, *shape), "float32"))["b"]
    assert out.shape == (2, *shape[:-1], 1) and np.isfinite(out).all()
    assert all(np.isfinite(float(loss)) for loss in model.losses)


def test_attention_as_a_stage():
    inputs = keras.Input((6, 4))
    block = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 3)(inputs, inputs), name="block")
    model = keras_mtl.cross_stitch(keras.Input((6, 4)), [block], heads(("a", "b")))
    first, second = (model.get_layer(f"{task}_block").get_weights()[0] for task in ("a", "b"))
    assert np.abs(first - second).min() > 0
    assert model(np.ones((2, 6, 4)))["a"].shape == (2, 6, 1)


def test_masks_of_padded_sequences_pass_through_units():
    stages = [keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.LSTM(4)]
    model = keras_mtl.cross_stitch(keras.Input((None,), dtype="int32"), stages, heads(("a", "b")))
    short, padded = np.array([[3, 4]]), np.array([[3, 4, 0, 0]])
    np.testing.assert_allclose(model(padded)["a"], model(short)["a"], rtol=1e-5)


def test_mtan_pools_and_repeats_the_tasks_features():
    conv = keras.layers.Conv2D
    stages = [
        [conv(4, 3, padding="same"), conv(4, 3, padding="same")],
        [conv(4, 3, strides=2, padding="same"), conv(4, 3, padding="same")],
        [keras.layers.UpSampling2D(), conv(4, 3, padding="same")],
        [keras.layers.Flatten(), keras.layers.Dense(4)],
    ]
    model = keras_mtl.mtan(keras.Input((6, 10, 1)), stages, heads(("a", "b")))
    assert model(np.ones((2, 6, 10, 1)))["a"].shape == (2, 1)
    with pytest.raises(ValueError, match="keep the size"):
        keras_mtl.mtan(keras.Input((6, 10, 1)), [[conv(4, 3), keras.layers.MaxPooling2D()]], heads())


def test_a_faster_learning_rate_for_units_is_one_pattern():
    model = build(keras_mtl.cross_stitch)
    frozen, fast = keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1)
    optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(frozen, {".*/units/.*": fast}))
    model.compile(optimizer, loss="mse", run_eagerly=True)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    model.fit(np.eye(D, dtype="float32"), {task: np.ones((D, 1)) for task in TASKS}, verbose=0)
    moved = {v.path for v in model.trainable_variables if np.any(before[v.path] != keras.ops.convert_to_numpy(v))}
    assert moved == {path for path in before if "/units/" in path}
