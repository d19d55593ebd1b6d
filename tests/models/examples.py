"""A small model of every builder, and inputs for it: the rows of the tests' tables."""

import functools

import keras

import keras_mtl
from keras_mtl import Dependency, rl, weighting
from keras_mtl.modular import CombineModule, FindModule, MeasureModule, TransformModule

HEADS = ("left", "right")
STOPPED = {"stop_gradient": True, "through": keras.layers.Dense(2, name="label")}


def dense_stages():
    return [keras.layers.Dense(6, activation="tanh", name="low"), keras.layers.Dense(6, activation="tanh", name="high")]


def heads():
    return {task: keras.layers.Dense(1) for task in HEADS}


BUILDERS = {
    "hard_sharing": (keras_mtl.hard_sharing, {"shared_depth": 1}),
    "soft_sharing": (keras_mtl.soft_sharing, {}),
    "soft_sharing_trace": (keras_mtl.soft_sharing, {"distance": "trace_norm", "normalization": "tt"}),
    "cross_stitch": (keras_mtl.cross_stitch, {}),
    "sluice": (keras_mtl.sluice, {}),
    "nddr": (keras_mtl.nddr, {"batch_normalization": True}),
    "mtan": (keras_mtl.mtan, {}),
    "mmoe": (keras_mtl.mmoe, {"experts": 3, "gate_dropout": 0.1}),
    "omoe": (keras_mtl.omoe, {"experts": 2, "shared_depth": 1}),
    "cgc": (keras_mtl.cgc, {"shared_experts": 1, "task_experts": 1}),
    "ple": (keras_mtl.ple, {"shared_experts": 1, "task_experts": 1}),
    "dselect_k": (keras_mtl.dselect_k, {"experts": 3, "entropy_strength": 0.01}),
    "branched_sharing": (keras_mtl.branched_sharing, {"branches": [[["left", "right"]], [["left"], ["right"]]]}),
    "learning_to_branch": (keras_mtl.learned.learning_to_branch, {}),
    "adashare": (keras_mtl.learned.adashare, {}),
    "hierarchical_sharing": (keras_mtl.hierarchical_sharing, {"depths": {"left": 1}}),
    "esmm": (keras_mtl.esmm, {"shared_depth": 1}),
    "aitm": (keras_mtl.recommenders.aitm, {}),
    "adatt": (keras_mtl.recommenders.adatt, {"shared_experts": 1}),
    "stem": (keras_mtl.recommenders.stem, {}),
    "adapters": (keras_mtl.adapter_sharing, {"rank": 2, "shared": 1}),
    "adapters_bottleneck": (keras_mtl.adapter_sharing, {"kind": "bottleneck", "rank": 2, "shared": 2}),
    "depends_on_output": (keras_mtl.hard_sharing, {"depends_on": {"right": "left"}}),
    "depends_on_stopped": (keras_mtl.mmoe, {"experts": 2, "depends_on": {"left": Dependency("right", **STOPPED)}}),
}


def distral():
    stages = [keras.layers.Dense(6, activation="tanh")]
    return rl.distral(keras.Input((3,), name="x"), stages, {task: keras.layers.Dense(3) for task in ("a", "b")})


def modules():
    kinds = {"find": FindModule(), "transform": TransformModule(), "and": CombineModule(), "answer": MeasureModule()}
    return keras_mtl.modular.neural_module_network(
        keras.Input((3, 3, 4), name="image"),
        [keras.layers.Dense(5, activation="relu")],
        kinds,
        ["(is red blue)", "(is red (above blue))"],
        vocabulary=["red", "blue", "above"],
    )


def omninet():
    inputs = {
        "image": keras.Input((1, 4, 6), name="image"),
        "text": keras.Input((5,), dtype="int32", name="text"),
    }
    peripherals = {
        "image": keras.layers.Dense(8, activation="relu"),
        "text": keras.layers.Embedding(9, 8, mask_zero=True),
    }
    tasks = {
        "answer": keras_mtl.multimodal.OmniTask({"image": "image", "text": "text"}, keras.layers.Dense(1)),
        "tags": keras_mtl.multimodal.OmniTask({"text": "text"}, keras.layers.Dense(4), tokens=4, length=5),
    }
    options = {"encoder_blocks": 1, "decoder_blocks": 1, "num_heads": 2, "hidden": 8, "control": 3}
    return keras_mtl.multimodal.omninet(inputs, peripherals, tasks, **options)


def pepnet():
    known = {"prior": keras.layers.Dense(3, name="prior"), "domain": keras.layers.Dense(2, name="domain")}
    return keras_mtl.recommenders.pepnet(keras.Input((5,)), dense_stages(), heads(), **known)


def own_inputs():
    return keras_mtl.own_inputs(build("hard_sharing"))


# Those that are made of more than stages and heads.
ASSEMBLED = {"distral": distral, "modules": modules, "omninet": omninet, "own_inputs": own_inputs, "pepnet": pepnet}
EVERY = (*BUILDERS, *ASSEMBLED)
# Their columns have no shared variables, so nothing can be weighted by task gradients.
WITHOUT_SHARED = ("soft_sharing", "soft_sharing_trace")
# Each task calls shared layers on data of its own: task gradients are those of parameters.
WITHOUT_FEATURES = ("modules", "omninet", "own_inputs", "adapters_bottleneck")
# Where tasks part, there is what all examples have in common.
NOT_OF_EXAMPLES = ("adapters",)


def build(name):
    if name in ASSEMBLED:
        return ASSEMBLED[name]()
    builder, options = BUILDERS[name]
    return builder(keras.Input((5,)), dense_stages(), heads(), **options)


def refusal(name, method, place="parameters"):
    """What `compile` says of an example with a weighting that it cannot have; `None` where it can."""
    needs = weighting.get(method).requires
    if needs != "losses" and name in WITHOUT_SHARED:
        return "two tasks or more share"
    if (needs == "features" or place != "parameters") and name in WITHOUT_FEATURES:
        return "on inputs of their own"
    if (needs == "features" or place != "parameters") and name in NOT_OF_EXAMPLES:
        return "should be of examples"
    return None


@functools.cache
def tasks_of(name):
    """The two tasks of an example."""
    return HEADS if name in BUILDERS else build(name).tasks


def draw_inputs(model, rows, rng):
    """Inputs in the shapes of a model; integers are from 0 to 2."""

    def like(tensor):
        shape = (rows, *tensor.shape[1:])
        whole = "int" in str(tensor.dtype)
        return rng.integers(0, 3, shape).astype("int32") if whole else rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(like, model.input)


def draw_labels(model, tasks, rows, rng):
    """Numbers in the shapes of the tasks' outputs."""
    return {task: rng.normal(size=(rows, *model.output[task].shape[1:])).astype("float32") for task in tasks}
