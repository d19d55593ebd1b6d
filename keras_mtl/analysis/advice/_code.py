"""The code of a candidate, as one would write it."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._keras_private import OPTIONS_OF_A_FUNCTION
from keras_mtl._types import Structure
from keras_mtl.models._copies import as_initialized

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Candidate, Problem

_WIDTH = 100
_NEVER = {"name", "dtype", "trainable", "quantization_config"}
_TEMPLATE = """{imports}


def make_model():
{own}    return_model = keras_mtl.{builder}(
        inputs={inputs},
        stages={stages},
        heads={heads},{options}
    )
    return_model.compile(
{compile}    )
    return return_model


def train(x, y, sample_weight=None):
    keras.utils.set_random_seed({seed})  # initial weights
    model = make_model()
    keras.utils.set_random_seed({seed})  # order of the data
    model.fit(x, y, sample_weight=sample_weight, epochs={epochs}, batch_size={batch_size})
    return model
"""


def code_of(problem: Problem, candidate: Candidate, epochs: int, seed: int) -> str:
    """Code that makes, compiles and trains a candidate.

    Args:
        problem: `Problem`.
        candidate: `Candidate`.
        epochs: Integer.
        seed: Integer.

    Returns:
        String. Where a given object is a function or a class of the user's
        own, the code imports it from where it was defined; where it cannot be
        imported, such as a lambda, it says so in a comment and names it.
    """
    writer = _Writer()
    inputs, stages, heads = problem.fresh_parts(candidate.width)
    arguments = problem.compile_arguments(candidate)
    parts = {
        "builder": candidate.builder,
        "inputs": writer.structure(inputs, 8, writer.input),
        "stages": writer.items([writer.value(s[0] if len(s) == 1 else s, 12) for s in stages], 8),
        "heads": writer.mapping({t: writer.value(s[0] if len(s) == 1 else s, 12) for t, s in heads.items()}, 8),
        "options": "".join(f"\n        {name}={writer.value(v, 8)}," for name, v in candidate.options.items()),
        "compile": "".join(f"        {name}={writer.value(v, 8)},\n" for name, v in _said(arguments).items()),
    }
    scaled = "".join(
        f"    # Labels of '{task}' as {(scale[0], scale[1])!r}: (label - first) / second.\n"
        for task, scale in problem.scales.items()
    )
    text = _TEMPLATE.format(
        imports=writer.imports(),
        own=scaled + writer.missing() + _states(problem),
        seed=seed,
        epochs=epochs,
        batch_size=problem.batch_size,
        **parts,
    )
    return text.replace("return_model", "model")


def _states(problem: Problem) -> str:
    """Comments on layers that have more than initializers draw."""
    layers = [layer for stack in (*problem.stages, *problem.heads.values()) for layer in stack]
    kept = [layer.name for layer in layers if not as_initialized(layer) or (layer.built and hasattr(layer, "adapt"))]
    return "".join(
        f"    # Layer '{name}' had weights or statistics of its own: load or adapt them anew.\n" for name in kept
    )


def _said(arguments: Mapping[str, Structure]) -> dict[str, Structure]:
    """Arguments of `compile` that are not the defaults."""
    usual = {"weighting": "equal", "gradients": "parameters"}
    return {n: v for n, v in arguments.items() if v is not None and v != {} and not (n in usual and usual[n] == v)}


class _Writer:
    """Writes values as code, and notes what has to be imported."""

    def __init__(self) -> None:
        self._imports = {"import keras", "import keras_mtl"}
        self._missing = []

    def imports(self) -> str:
        """The import lines."""
        plain = sorted(line for line in self._imports if line.startswith("import"))
        return "\n".join([*plain, *sorted(self._imports - set(plain))])

    def missing(self) -> str:
        """Comments on what cannot be imported."""
        return "".join(f"    # `{name}` is yours: {what}.\n" for name, what in self._missing)

    def input(self, tensor: keras.KerasTensor) -> str:
        """`keras.Input` of a tensor."""
        more = {} if tensor.dtype == "float32" else {"dtype": tensor.dtype}
        more |= {"sparse": True} if getattr(tensor, "sparse", False) else {}
        more |= {} if tensor.name.startswith("keras_tensor") else {"name": tensor.name}
        return f"keras.Input({tuple(tensor.shape[1:])!r}{''.join(f', {k}={self.value(v)}' for k, v in more.items())})"

    def structure(self, value: Structure, indent: int, leaf: Callable[[Any], str]) -> str:
        """A list or dict of leaves."""
        if isinstance(value, dict):
            return self.mapping({key: self.structure(item, indent + 4, leaf) for key, item in value.items()}, indent)
        if isinstance(value, (list, tuple)):
            return self.items([self.structure(item, indent + 4, leaf) for item in value], indent)
        return leaf(value)

    def items(self, lines: Sequence[str], indent: int) -> str:
        """A list, an item a line where there are several."""
        return _block("[", lines, "]", indent)

    def mapping(self, lines: Mapping[str, str], indent: int) -> str:
        """A dict, an item a line where there are several."""
        return _block("{", [f"{self.value(key)}: {line}" for key, line in lines.items()], "}", indent)

    def value(self, value: object, indent: int = 0) -> str:
        """Any value."""
        if isinstance(value, (list, tuple)) and not isinstance(value, str):
            lines = [self.value(item, indent + 4) for item in value]
            if isinstance(value, tuple):
                return f"({', '.join(lines)}{',' * (len(lines) == 1)})"
            return self.items(lines, indent)
        if isinstance(value, dict):
            return self.mapping({key: self.value(item, indent + 4) for key, item in value.items()}, indent)
        if isinstance(value, (np.integer, np.floating, np.bool_)):
            return repr(value.item())
        if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        if value is None or isinstance(value, (bool, int, float)):
            return repr(value)
        if isinstance(value, (types.FunctionType, type)):
            return self._imported(value)
        if callable(getattr(value, "get_config", None)):
            return self._object(value, indent)
        return self._own(value)

    def _object(self, value: Structure, indent: int) -> str:
        """A Keras object by its class and the arguments that are not the defaults."""
        cls = type(value)
        config = dict(value.get_config())
        parameters = inspect.signature(cls.__init__).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        plain = _plain_config(cls, config)
        plain = {name: item for name, item in plain.items() if name in parameters or item or name == "name"}
        fits = all(name in parameters or (takes_any and name in ("name", "dtype", "trainable")) for name in plain)
        if type(value) is keras.Sequential:
            named = "" if _is_automatic(value) else f", name={self.value(value.name)}"
            return f"keras.Sequential({self.value(value.layers, indent)}{named})"
        # Keras' losses leave options out of their configs.
        plain |= {name: item for name, item in getattr(value, OPTIONS_OF_A_FUNCTION, {}).items() if name in parameters}
        if isinstance(value, keras.layers.Layer) and _is_automatic(value):
            plain.pop("name", None)
        if not fits or isinstance(value, keras.Model):
            return self._by_config(value, config)
        said = {}
        for name, item in plain.items():
            default = parameters[name].default if name in parameters else None
            if not _same(item, default):
                said[name] = item
        positional = [n for n, p in parameters.items() if p.default is p.empty and n in said and n != "self"][:1]
        words = [self.value(_plain(said.pop(n)), indent) for n in positional]
        words += [f"{name}={self.value(_plain(item), indent)}" for name, item in said.items()]
        return f"{self._named(cls)}({', '.join(words)})"

    def _by_config(self, value: Structure, config: Mapping[str, Any]) -> str:
        """What is made of nested objects, from its config."""
        try:
            text = json.dumps(keras.saving.serialize_keras_object(value))
        except (TypeError, ValueError):
            return self._own(value)
        self._imports.add("import json")
        return f"keras.saving.deserialize_keras_object(json.loads({text!r}))"

    def _named(self, cls: type) -> str:
        module = cls.__module__.split(".")[0]
        for room in ("layers", "optimizers", "losses", "metrics", "regularizers", "initializers", "constraints"):
            for package, name in ((keras, "keras"), (_keras_mtl(), "keras_mtl")):
                if module == name and getattr(getattr(package, room, None), cls.__name__, None) is cls:
                    return f"{name}.{room}.{cls.__name__}"
        if module == "keras" and getattr(keras.optimizers.schedules, cls.__name__, None) is cls:
            return f"keras.optimizers.schedules.{cls.__name__}"
        if module == "keras_mtl" and getattr(_keras_mtl().weighting, cls.__name__, None) is cls:
            return f"keras_mtl.weighting.{cls.__name__}"
        return self._imported(cls)

    def _imported(self, thing: type | Callable[..., Any]) -> str:
        name, module = thing.__qualname__, thing.__module__
        if "<" in name or "." in name or module == "__main__":
            return self._own(thing)
        self._imports.add(f"from {module} import {name}")
        return name

    def _own(self, thing: object) -> str:
        name = getattr(thing, "__name__", type(thing).__name__)
        name = name if name.isidentifier() else f"own_{len(self._missing) + 1}"
        if name not in dict(self._missing):
            self._missing.append((name, f"a {type(thing).__name__} that cannot be imported"))
        return name


def _keras_mtl() -> ModuleType:
    import keras_mtl

    return keras_mtl


def _block(opening: str, lines: Sequence[str], closing: str, indent: int) -> str:
    short = f"{opening}{', '.join(lines)}{closing}"
    plain = not any("(" in line for line in lines) and len(short) + indent <= _WIDTH
    if "\n" not in short and (len(lines) < 2 or plain):
        return short
    inner, outer = " " * (indent + 4), " " * indent
    return opening + "".join(f"\n{inner}{line}," for line in lines) + f"\n{outer}{closing}"


def _plain_config(cls: type, config: dict[str, Any]) -> dict[str, Any]:
    """A config without what says nothing."""
    if issubclass(cls, keras.layers.Layer):
        policy = config.get("dtype")
        named = policy if isinstance(policy, str) else (policy or {}).get("config", {}).get("name")
        drop = {"trainable"} if config.get("trainable", True) else set()
        drop |= {"dtype"} if named == keras.config.dtype_policy().name else set()
        drop |= {"quantization_config"} if config.get("quantization_config") is None else set()
        return {name: item for name, item in config.items() if name not in drop}
    names = _NEVER if issubclass(cls, keras.optimizers.Optimizer) else _NEVER - {"name"}
    return {name: item for name, item in config.items() if name not in names or (name == "trainable" and not item)}


def _is_automatic(layer: keras.Layer) -> bool:
    """Whether Keras has named a layer."""
    return re.sub(r"_\d+$", "", layer.name).replace("_", "") == type(layer).__name__.lower()


def _same(item: Structure, default: Structure) -> bool:
    """Whether a value of a config is what a default stands for."""
    if default is None and item in ("linear", keras.config.image_data_format()):  # what Keras makes of `None`
        return True
    if item is None or default is None or default is inspect.Parameter.empty:
        return item is default
    if isinstance(item, dict) and isinstance(default, str):  # an initializer that a name stands for
        try:
            standard = keras.initializers.get(default)
            return item == keras.saving.serialize_keras_object(standard) or (
                item.get("class_name") == type(standard).__name__ and item.get("config") == standard.get_config()
            )
        except ValueError:
            return False
    if isinstance(item, float) and isinstance(default, (int, float)):
        return bool(np.isclose(item, default, rtol=1e-6))
    if isinstance(item, (list, tuple)) or isinstance(default, (list, tuple)):
        return list(np.ravel(item)) == list(np.ravel(default)) or set(np.ravel(item)) == set(np.ravel(default))
    return item == default


def _plain(item: Structure) -> Structure:
    """A Keras object in a config as the object itself."""
    if isinstance(item, dict) and "class_name" in item and "config" in item:
        found = keras.saving.deserialize_keras_object(item)
        return found
    if isinstance(item, float):
        return float(f"{item:.7g}")
    return item
