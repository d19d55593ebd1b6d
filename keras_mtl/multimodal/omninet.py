"""OmniNet: one core for images, text, video and tables, and for whatever is asked about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers

from keras_mtl._checks import as_list, check_boolean, check_integer, check_number
from keras_mtl._types import Layers
from keras_mtl.layers import Stage
from keras_mtl.models._arguments import check_stages, check_task_names
from keras_mtl.models._stages import add_head, call_stage
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.multimodal.control_vector import ControlVector
from keras_mtl.multimodal.controlled_features import ControlledFeatures
from keras_mtl.multimodal.decoder_tokens import DecoderTokens
from keras_mtl.multimodal.feed_forward import FeedForward
from keras_mtl.multimodal.spatial_cache import SpatialCache
from keras_mtl.multimodal.spatial_decoder import SpatialDecoder
from keras_mtl.multimodal.temporal_decoder import TemporalDecoder
from keras_mtl.multimodal.temporal_encoder import TemporalEncoder


@dataclasses.dataclass(frozen=True)
class OmniTask:
    """A task of `keras_mtl.multimodal.omninet`: what it reads, and what it tells.

    Args:
        reads: Dict from the name of an input to the peripheral that it goes
            through, in the order in which they are read.
        head: Keras layer or list of layers, on features of shape `(features,)`
            or, where the task tells a sequence, at each place.
        tokens: Integer. How many tokens a sequence is made of, if the task
            tells one: each is told with those before it known. Defaults to
            `None`: the task tells one thing.
        length: Integer. Length of the sequence, if it is fixed. Defaults to
            `None`.
    """

    reads: dict
    head: object
    tokens: int | None = None
    length: int | None = None


def omninet(
    inputs: Mapping[str, keras.KerasTensor],
    peripherals: Mapping[str, Layers],
    tasks: Mapping[str, OmniTask],
    *,
    encoder_blocks: int = 2,
    decoder_blocks: int = 2,
    num_heads: int = 4,
    hidden: int = 128,
    control: int = 16,
    dropout: float = 0.0,
    spatial: bool = True,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds an OmniNet: peripherals, one central processor, and heads.

    A peripheral turns an input into features over time and space. The central
    processor, which all inputs and tasks share, adds the control vector of the
    peripheral's domain and makes two caches of them: over time, and over all
    places of each time. A task reads one input or more; then its control
    vector attends to the caches, over time first, and to places as far as
    their time is attended to. Where it tells a sequence, so does each token.

    Caches are tensors of the graph, made anew for each batch. Nothing is kept
    in layers.

    Args:
        inputs: Dict from name to `keras.Input`.
        peripherals: Dict from name to a Keras layer or a list of layers, which
            give features of shape `(batch, time, space, features)`, or
            `(batch, time, features)` where there is no space, as in text.
            `features` is the same for all. Masks of shape `(batch, time)`, as
            `Embedding(mask_zero=True)` gives them, are heeded.
        tasks: Dict from task to `keras_mtl.multimodal.OmniTask`.
        encoder_blocks: Integer. Transformer blocks over time. Defaults to `2`.
        decoder_blocks: Integer. Blocks of the decoder. Defaults to `2`.
        num_heads: Integer. Attention heads of each block. Defaults to `4`.
        hidden: Integer. Width of the feed-forward parts. Defaults to `128`.
        control: Integer. Length of control vectors. Defaults to `16`.
        dropout: Float. In each part of each block. Defaults to `0`.
        spatial: Boolean. Whether there are spatial caches. Defaults to `True`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel` with one output for each task. Where a
        task tells a sequence, the model has an input `<task>_tokens`, of shape
        `(batch, length)`: the sequence that is told, as in `y`. Of it, each
        place sees what comes before. `keras_mtl.multimodal.decode` tells a sequence token
        by token.

    Raises:
        ValueError: If a task reads an input or a peripheral that there is not,
            or a peripheral's features do not have the right axes or width.

    Example:

    >>> model = keras_mtl.multimodal.omninet(
    ...     inputs={"image": keras.Input((1, 9, 12), name="image"), "question": keras.Input((4,), name="question")},
    ...     peripherals={"image": keras.layers.Dense(16), "text": keras.layers.Embedding(9, 16, mask_zero=True)},
    ...     tasks={
    ...         "answer": keras_mtl.multimodal.OmniTask({"image": "image", "question": "text"}, keras.layers.Dense(3)),
    ...         "caption": keras_mtl.multimodal.OmniTask({"image": "image"}, keras.layers.Dense(9), tokens=9, length=6),
    ...     },
    ... )
    >>> model.output["answer"].shape, model.output["caption"].shape
    ((None, 3), (None, 6, 9))

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.

    Deviations: caches and the model have one width. Tokens' embeddings have
    it too, and no further projection. Caches of inputs with space come before
    those without, which attention does not notice.
    """
    check_boolean(spatial, "spatial")
    _check(inputs, peripherals, tasks)
    core = _Core(
        check_integer(encoder_blocks, "encoder_blocks"),
        check_integer(decoder_blocks, "decoder_blocks", 1),
        check_integer(num_heads, "num_heads", 1),
        check_integer(hidden, "hidden", 1),
        check_integer(control, "control", 1),
        check_number(dropout, "dropout", least=0, below=1),
        spatial,
    )
    placed = {key: Stage(as_list(layer), scope="shared", name=f"shared_{key}") for key, layer in peripherals.items()}
    given, outputs, encoded, width = dict(inputs), {}, {}, {}
    for task, what in tasks.items():
        caches = []
        for key, peripheral in what.reads.items():
            if (key, peripheral) not in encoded:
                seen = call_stage(placed[peripheral], inputs[key], f"Peripheral '{peripheral}' of input '{key}'")
                width.setdefault(seen.shape[-1], peripheral)
                _check_width(width, peripheral)
                encoded[key, peripheral] = core.encode(seen, peripheral)
            caches.append(encoded[key, peripheral])
        tokens = []
        if what.tokens is not None:
            key = f"{task}_tokens"
            given[key] = keras.Input((what.length,), dtype="int32", name=key)
            embedding = layers.Embedding(what.tokens, next(iter(width)), name="tokens")
            tokens = [Stage([embedding], scope=task, name=key.replace("_tokens", "_embedding"))(given[key])]
        features = core.decode(task, caches, tokens, next(iter(width)))
        if what.tokens is None:
            features = features[:, 0]
        outputs[task] = add_head(as_list(what.head), features, task)
    used = {key for what in tasks.values() for key in what.reads}
    given = {key: tensor for key, tensor in given.items() if key in used or key not in inputs}
    return MultiTaskModel(given, outputs, name=name)


class _Core:
    """The central processor: stages that all tasks share, made once."""

    def __init__(
        self,
        encoder_blocks: int,
        decoder_blocks: int,
        num_heads: int,
        hidden: int,
        control: int,
        dropout: float,
        spatial: bool,
    ) -> None:
        self._spatial, self._control = spatial, control
        self._made = {}
        self._decoder_blocks = decoder_blocks
        self._layers = {
            "control": ControlledFeatures,
            "temporal": lambda **kw: TemporalEncoder(encoder_blocks, num_heads, hidden, dropout, **kw),
            "spatial": SpatialCache,
            "look": lambda **kw: TemporalDecoder(num_heads, dropout, **kw),
            "place": lambda **kw: SpatialDecoder(num_heads, dropout, **kw),
            "think": lambda **kw: FeedForward(hidden, dropout, **kw),
        }

    def _stage(self, kind: str, name: str | None = None, layer: keras.Layer | None = None) -> Stage:
        name = name or kind
        if name not in self._made:
            layer = layer or self._layers[kind](name=name)
            self._made[name] = Stage([layer], scope="shared", name=f"shared_{name}")
        return self._made[name]

    def encode(self, features: keras.KerasTensor, domain: str) -> list[keras.KerasTensor]:
        """The caches of an input: a temporal one, and, where there is space, a spatial one."""
        vector = ControlVector(self._control, name=f"{domain}_domain")
        control = self._stage("domain", f"{domain}_domain", vector)(features)
        controlled = self._stage("control")([features, control])
        caches = [self._stage("temporal")(controlled)]
        if self._spatial and controlled.shape[2] != 1:
            caches.append(self._stage("spatial")(controlled))
        return caches

    def decode(
        self, task: str, caches: Sequence[Sequence[keras.KerasTensor]], tokens: Sequence[keras.KerasTensor], width: int
    ) -> keras.KerasTensor:
        """What a task finds in caches, of shape `(batch, q, features)`."""
        caches = sorted(caches, key=len, reverse=True)  # those with space first
        vector = ControlVector(self._control, name="control")
        control = Stage([vector], scope=task, name=f"{task}_control")(caches[0][0])
        found = self._stage("tokens", layer=DecoderTokens(width, name="tokens"))([control, *tokens])
        paired = [cache for pair in caches if len(pair) == 2 for cache in pair]
        for i in range(1, self._decoder_blocks + 1):
            found, seen = self._stage("look", f"look_{i}")([found, *(pair[0] for pair in caches)])
            if paired:
                found = self._stage("place", f"place_{i}")([found, seen, *paired])
            found = self._stage("think", f"think_{i}")(found)
        return found


def decode(model: MultiTaskModel, task: str, x: Mapping[str, np.ndarray], batch_size: int | None = None) -> np.ndarray:
    """Tells a sequence token by token, each with those before it.

    Args:
        model: A model of `keras_mtl.multimodal.omninet`.
        task: String. A task that tells a sequence.
        x: Dict from the names of the inputs that the task reads to arrays.
        batch_size: Integer. As in `predict`. Defaults to `None`.

    Returns:
        Integer array of shape `(examples, length)`: at each place the likeliest
        token.

    Raises:
        ValueError: If the task tells no sequence, or one of open length.
    """
    import numpy as np

    single, key = model.task_model(task), f"{task}_tokens"
    if key not in single.input or single.input[key].shape[1] is None:
        raise ValueError(
            f"`task` should be one that tells a sequence of known length. Received: task={task!r}; the model's inputs "
            f"are {list(model.input)}"
        )
    given = {name: array for name, array in x.items() if name in single.input}
    length, count = single.input[key].shape[1], len(next(iter(given.values())))
    tokens = np.zeros((count, length), "int32")
    for place in range(length):
        told = single.predict({**given, key: tokens}, batch_size=batch_size, verbose=0)
        tokens[:, place] = told[:, place].argmax(-1)
    return tokens


def _check(
    inputs: Mapping[str, keras.KerasTensor], peripherals: Mapping[str, Layers], tasks: Mapping[str, OmniTask]
) -> None:
    if not isinstance(inputs, dict) or not all(isinstance(x, keras.KerasTensor) for x in inputs.values()):
        raise ValueError(f"`inputs` should be a dict from name to `keras.Input`. Received: inputs={inputs!r}")
    if not isinstance(peripherals, dict):
        raise ValueError(f"`peripherals` should be a dict from name to Keras layer. Received: {peripherals!r}")
    check_stages(list(peripherals.values()))
    if not isinstance(tasks, dict) or not all(isinstance(task, OmniTask) for task in tasks.values()):
        raise ValueError(
            f"`tasks` should be a dict from task to `keras_mtl.multimodal.OmniTask`. Received: tasks={tasks!r}"
        )
    check_task_names(tasks)
    for task, what in tasks.items():
        if not what.reads:
            raise ValueError(f"Task '{task}' should read at least one input. Received: reads={what.reads!r}")
        for key in ("tokens", "length"):
            check_integer(getattr(what, key), f"tasks['{task}'].{key}", 1, or_none=True)
        for key, peripheral in what.reads.items():
            if key not in inputs:
                raise ValueError(f"Task '{task}' should read inputs of {list(inputs)}. Received: '{key}'")
            if peripheral not in peripherals:
                raise ValueError(
                    f"Task '{task}' should read input '{key}' through a peripheral of {list(peripherals)}. "
                    f"Received: '{peripheral}'"
                )


def _check_width(width: Mapping[int, str], peripheral: str) -> None:
    if len(width) > 1:
        (first, of), (second, _) = width.items()
        raise ValueError(
            f"All peripherals should give as many features. Received: {first} of '{of}', {second} of '{peripheral}'"
        )
