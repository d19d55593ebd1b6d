"""Fingerprints of training runs: a digest of everything that could change the result."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import json
import numbers
import os
import pathlib
import re
import sys
import tempfile
import types
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import CellType, CodeType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import keras_mtl
from keras_mtl._keras_private import OPTIONS_OF_A_FUNCTION, layers_of, layers_within
from keras_mtl._types import Structure
from keras_mtl.analysis._checksums import array_parts, data_set_parts

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

_PLAIN = (type(None), bool, numbers.Number, str, bytes, os.PathLike)
_GIVEN_TO_CALLBACKS = {*vars(keras.callbacks.Callback()), "validation_data"}
_CONTAINERS = (list, dict, set, frozenset, tuple, np.ndarray)
# What trainings leave in an object that was given: its digest before the first one, and after the last one.
_used: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Fingerprint:
    """Digests of settings, models, callbacks and data.

    Equal settings have equal digests, in every process; automatic names of
    layers do not count. Functions and classes of packages count by their name,
    those of the user by their code, default values, and the plain values that
    they read from around them.

    Args:
        initial_weights: Boolean. Whether the weights of models count that were
            not trained yet. Frozen ones do. Defaults to `True`.

    Attributes:
        unknown: Dict from what could not be read to the end, such as
            `"callbacks[0].schedule"`, to what it is.
    """

    def __init__(self, initial_weights: bool = True) -> None:
        self.unknown = {}
        self._initial_weights = initial_weights
        self._given = {}  # digests of what trainings may change, such as callbacks
        self._open = []  # what is being read, since objects may hold each other

    def digest(self, **parts: Any) -> str:
        """The digest of named parts, as 16 hexadecimal digits."""
        outer, self._hash = getattr(self, "_hash", None), hashlib.sha256()
        for name, value in sorted(parts.items()):
            self._put("part", name)
            self._read(value, name)
        found, self._hash = self._hash.hexdigest()[:16], outer
        return found

    def remember(self) -> None:
        """Notes what trainings have made of the callbacks and data that were read, so that they count as they came."""
        for thing, before in self._given.items():
            _used[thing] = (before, self._digest_of(thing, ""))

    def _put(self, kind: str, text: object = b"") -> None:
        self._hash.update(f"{kind}:".encode())
        self._hash.update(text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogatepass"))
        self._hash.update(b"\x00")

    def _read(self, value: Structure, name: str) -> None:
        if type(value) in (str, int, float, bool, type(None)):
            return self._plain(value)
        if any(value is other for other in self._open):
            return self._put("again")
        if isinstance(value, _PLAIN):
            return self._plain(value)
        self._open.append(value)
        try:
            self._read_new(value, name)
        finally:
            self._open.pop()

    def _plain(self, value: object) -> None:
        if isinstance(value, (bool, np.bool_)):
            return self._put("bool", bool(value))
        if isinstance(value, numbers.Integral):
            return self._put("int", int(value))
        if isinstance(value, numbers.Real):
            return self._put("float", repr(float(value)))
        if isinstance(value, os.PathLike):
            return self._put("path", os.fspath(value))
        return self._put(type(value).__name__, value)

    def _read_new(self, value: Structure, name: str) -> None:
        if isinstance(value, dict):
            self._put("dict", len(value))
            for key in sorted(value, key=repr):
                self._put("key", repr(key))
                self._read(value[key], f"{name}[{key!r}]")
        elif isinstance(value, (list, tuple)):
            self._put("list", len(value))
            for place, item in enumerate(value):
                self._read(item, f"{name}[{place}]")
        elif isinstance(value, (set, frozenset)):
            self._put("set", sorted(map(repr, value)))
        elif isinstance(value, type):
            self._class(value, name)
        elif isinstance(value, functools.partial):
            self._read([value.func, value.args, value.keywords], name)
        elif isinstance(value, types.MethodType):
            self._read([value.__func__, value.__self__], name)
        elif isinstance(value, types.FunctionType):
            self._function(value, name)
        elif _is_compiled(value):
            self._model(value, name)
        elif (parts := array_parts(value)) is not None:
            for part in parts:
                self._put("array", part)
        elif (parts := data_set_parts(value, self._not_read(name))) is not None:
            self._read(parts, name)
        elif isinstance(value, (keras.callbacks.Callback, keras.utils.PyDataset)):
            self._put("given", self._as_it_came(value, name))
        elif callable(getattr(value, "get_config", None)):
            self._keras_object(value, name)
        elif callable(getattr(value, "to_dict", None)):  # affinities, groupings
            self._read([type(value), value.to_dict()], name)
        elif callable(value) and hasattr(value, "__qualname__"):
            self._put("builtin", f"{getattr(value, '__module__', None)}.{value.__qualname__}")
        elif hasattr(value, "python_function"):  # a `tf.function`
            self._read(value.python_function, name)
        elif isinstance(value, (types.ModuleType, np.ufunc, np.dtype)):
            self._put("named", getattr(value, "__name__", value))
        elif (state := _pickled(value)) is not None:
            self._read(state, name)
        elif hasattr(value, "__dict__"):
            self._object(value, name)
        else:
            self._put("type", _name_of(type(value)))
            self._not_read(name)(value)

    def _not_read(self, name: str) -> Callable[..., Any]:
        def add(what: str) -> None:
            self.unknown.setdefault(name, what if isinstance(what, str) else f"a {type(what).__name__}")

        return add

    def _as_it_came(self, thing: object, name: str) -> object:
        raw = self._digest_of(thing, name)
        before, after = _used.get(thing, (None, None))
        self._given.setdefault(thing, before if raw == after else raw)
        return self._given[thing]

    def _digest_of(self, thing: object, name: str) -> str:
        outer, self._hash = getattr(self, "_hash", None), hashlib.sha256()
        self._object(thing, name)
        if isinstance(thing, keras.utils.PyDataset):
            self._py_data_set(thing, name)
        found, self._hash = self._hash.hexdigest(), outer
        return found

    def _py_data_set(self, data: keras.utils.PyDataset, name: str) -> None:
        try:
            size = len(data)
        except (NotImplementedError, TypeError):
            size = None  # endless
        self._put("batches", size)
        places = sorted({0, (size or 1) - 1}) if size != 0 else []
        first, second = ([self.digest(batch=data[place]) for place in places] for _ in range(2))
        if first == second:
            self._put("content", first)
        else:
            self._not_read(name)("batches that are drawn anew each time")

    def _object(self, value: object, name: str) -> None:
        """An object by its class and what it holds."""
        self._class(type(value), name)
        own = _is_own(type(value))
        data = isinstance(value, keras.utils.PyDataset)
        for key, item in sorted(vars(value).items()):
            # What Keras itself gives to callbacks, and what reads the batches of a data set: these are read instead.
            if key in _GIVEN_TO_CALLBACKS or (data and not isinstance(item, _PLAIN)):
                continue
            if own or _reads(item):
                self._put("attribute", key)
                self._read(item, f"{name}.{key}")

    def _keras_object(self, value: MultiTaskModel | keras.optimizers.Optimizer, name: str) -> None:
        self._class(type(value), name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of lambdas, which are read below
                config = value.get_config()
        except Exception as error:
            self._not_read(name)(f"get_config of {type(value).__name__} raises {type(error).__name__}")
            self._put("shapes", [tuple(w.shape) for w in getattr(value, "weights", ())])
        else:
            config = without_automatic_names(config)
            try:
                self._put("config", json.dumps(config, sort_keys=True))
            except (TypeError, ValueError):
                self._read(config, name)
        self._own_parts(value, name)
        if isinstance(value, keras.layers.Layer) and not _is_compiled(value):
            self._weights(value.weights)  # as of a teacher
            for layer in layers_of(value):
                self._state(layer)

    def _weights(self, weights: Sequence[keras.Variable]) -> None:
        for weight in weights:
            self._put("weight", " ".join(array_parts(weight, whole=2**15, piece=2**14) or ()))

    def _state(self, layer: keras.Layer) -> None:
        """What a layer has adapted to or saves besides its weights, such as a vocabulary."""
        base = keras.layers.Layer.save_own_variables
        if type(layer).save_own_variables is not base and (_is_own(type(layer)) or not layer.weights):
            saved: dict = {}
            layer.save_own_variables(saved)
            self._read(saved, f"layer '{layer.name}'")
        if callable(getattr(layer, "get_vocabulary", None)):
            self._put("vocabulary", repr(layer.get_vocabulary()))
        elif callable(getattr(layer, "save_assets", None)):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                for path in sorted(pathlib.Path(folder).rglob("*")):
                    self._put("asset", path.name)
                    self._put("content", path.read_bytes() if path.is_file() else b"")

    def _own_parts(self, value: MultiTaskModel | keras.Layer | keras.optimizers.Optimizer, name: str) -> None:
        """Functions and objects of the user's classes, which a config has by name alone, and what these hold."""
        named = None  # all attributes
        if isinstance(value, (keras.layers.Layer, keras.metrics.Metric, keras.optimizers.Optimizer)):
            named = _named_in_own_code(type(value))  # these hold much that is Keras' own
        whole = _is_own(type(value)) or isinstance(value, keras.losses.Loss)  # whose config lacks options
        for key, item in sorted(vars(value).items()):
            mine = key == OPTIONS_OF_A_FUNCTION or (
                whole and (named is None or key in named) and key not in ("name", "_name")
            )
            if mine and (
                isinstance(item, (*_PLAIN, *_CONTAINERS, keras.Model))
                or keras.ops.is_tensor(item)
                or (named is None and isinstance(item, keras.Variable))
            ):
                self._put("attribute", key)
                self._read(item, f"{name}.{key}")
                continue
            if isinstance(item, types.FunctionType):
                mine = _is_own(item) and not hasattr(type(value), key)  # where Keras has put it in place of a method
            else:
                mine = isinstance(item, functools.partial) or _is_own(type(item))
                mine = mine and not isinstance(item, keras.layers.Layer)
            if mine:
                self._read(item, f"{name}.{key}")

    def _model(self, model: MultiTaskModel, name: str) -> None:
        self._keras_object(model, name)
        for layer in layers_within(model):
            if _is_own(type(layer)):
                self._class(type(layer), f"layer '{layer.name}'")
            self._own_parts(layer, f"layer '{layer.name}'")
            self._state(layer)
        optimizer = model.optimizer
        steps = int(keras.ops.convert_to_numpy(optimizer.iterations.value)) if optimizer.built else 0
        self._weights(model.weights if self._initial_weights or steps else model.non_trainable_weights)
        compiled = model.compiled_tasks
        self._read(compiled.options.given, "compile")
        self._read([optimizer, steps], "optimizer")
        self._read(compiled.static_weights, name)
        replicas = getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1)
        self._read([model.run_eagerly, model.jit_compile, model.steps_per_execution, replicas], name)

    def _function(self, function: Callable[..., Any], name: str) -> None:
        self._put("function", _name_of(function))
        if not _is_own(function):
            return
        if function.__name__ == "<lambda>":
            self._not_read(name)("a lambda")
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        around = {key: cell.cell_contents for key, cell in cells if _is_filled(cell)}
        self._code(function.__code__, {**function.__globals__, **around}, name, _CONTAINERS)
        self._read([function.__defaults__, function.__kwdefaults__], name)

    def _class(self, cls: type, name: str) -> None:
        self._put("class", _name_of(cls))
        if not _is_own(cls) or any(cls is other for other in self._open[:-1]):
            return
        self._open.append(cls)
        for base in cls.__bases__:
            self._class(base, name)
        for key, item in sorted(vars(cls).items()):
            item = getattr(item, "__func__", getattr(item, "fget", item))
            if isinstance(item, types.FunctionType):
                self._put("method", key)
                names = zip(item.__code__.co_freevars, item.__closure__ or (), strict=True)
                around = {key: cell.cell_contents for key, cell in names if _is_filled(cell)}
                # Lists and the like are where callbacks and data put down what they have seen.
                self._code(item.__code__, {**item.__globals__, **around}, name, ())
                self._read([item.__defaults__, item.__kwdefaults__], name)
            elif isinstance(item, _PLAIN) and not key.startswith("__"):
                self._put("attribute", key)
                self._plain(item)
        self._open.pop()

    def _code(self, code: CodeType, around: Mapping[str, Any], name: str, containers: tuple[type, ...]) -> None:
        self._put("code", code.co_code)
        self._put("names", [code.co_names, code.co_varnames, code.co_argcount, code.co_kwonlyargcount, code.co_flags])
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, around, name, containers)
            else:
                self._read(constant, name)
        read, written = set(), set()
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"):
                read.add(step.argval)
            elif step.opname in ("STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL"):
                written.add(step.argval)
        for key in sorted(read - written - {"__class__"}):
            if key in around:
                item = around[key]
                if isinstance(item, (types.ModuleType, *_CONTAINERS)) and not isinstance(item, containers):
                    continue
                kinds = (*_PLAIN, types.FunctionType, types.BuiltinFunctionType, type, functools.partial, *containers)
                given = keras.ops.is_tensor(item) or (containers and isinstance(item, keras.Variable))
                if given or isinstance(item, kinds) or hasattr(item, "get_config"):
                    self._put("reads", key)
                    self._read(item, name)
                else:
                    self._not_read(name)(f"what reads `{key}`, a {type(item).__name__}")


def versions() -> dict[str, str | None]:
    """The versions of what trainings are made of, by name."""
    backend = keras.backend.backend()
    modules = {"keras": keras, "keras_mtl": keras_mtl, "numpy": np, backend: sys.modules.get(backend)}
    return {name: getattr(module, "__version__", None) for name, module in modules.items()}


@functools.lru_cache(maxsize=1024)
def _is_installed(module: str) -> bool:
    root = module.split(".")[0]
    if root in ("keras_mtl", *sys.builtin_module_names, *sys.stdlib_module_names) and root != "__main__":
        return True
    file = getattr(sys.modules.get(root), "__file__", None) or next(
        iter(getattr(sys.modules.get(root), "__path__", ())), ""
    )
    return bool({"site-packages", "dist-packages"} & set(re.split(r"[\\/]", file)))


def _is_own(thing: object) -> bool:
    """Whether a function or class is of the user, not of a package."""
    module = getattr(thing, "__module__", None)
    return isinstance(module, str) and not _is_installed(module)


def _named_in_own_code(cls: type) -> set[str]:
    """The attributes that the methods of the user's classes name."""
    own = [item for base in cls.__mro__ if _is_own(base) for item in vars(base).values()]
    functions = [getattr(item, "__func__", getattr(item, "fget", item)) for item in own]
    return {name for f in functions if isinstance(f, types.FunctionType) for name in f.__code__.co_names}


def _pickled(value: object) -> list[Any] | None:
    """What `pickle` would keep of an object that has more than attributes; `None` where it is no such one."""
    kind = type(value)
    if hasattr(value, "__next__"):  # it is used up as it is read
        return None
    if hasattr(value, "__dict__") and all(
        getattr(kind, name, None) is getattr(object, name, None)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    ):
        return None
    try:
        registered = copyreg.dispatch_table.get(kind)
        made = registered(value) if registered else value.__reduce_ex__(4)
    except Exception:  # of any class
        return None
    return [list(part) if hasattr(part, "__next__") else part for part in made] if isinstance(made, tuple) else [made]


def _is_compiled(value: Structure) -> bool:
    return isinstance(value, keras.Model) and getattr(value, "compiled_tasks", None) is not None


def _reads(item: object) -> bool:
    """Whether an attribute of a package's object is more than a detail of how it works."""
    kinds = (*_PLAIN, *_CONTAINERS, types.FunctionType, functools.partial, types.MethodType)
    return isinstance(item, kinds) or hasattr(item, "get_config") or hasattr(item, "to_dict")


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _name_of(thing: object) -> str:
    return f"{getattr(thing, '__module__', None)}.{getattr(thing, '__qualname__', thing)}"


def without_automatic_names(config: Structure) -> Structure:
    """A config in which `dense_7` is the first `dense`, however many were made before it in this process."""
    new, counts = {}, {}

    def collect(part: Structure) -> None:
        if isinstance(part, dict):
            name = part.get("name")
            if isinstance(name, str) and name not in new:
                base = re.sub(r"_\d+", "", name)
                new[name] = f"{base}#{counts.setdefault(base, 0)}"
                counts[base] += 1
            for item in part.values():
                collect(item)
        elif isinstance(part, (list, tuple)):
            for item in part:
                collect(item)

    def replace(part: Structure) -> Structure:
        if isinstance(part, dict):
            if part.get("class_name") == "__lambda__":
                return "a lambda"  # its bytes differ from process to process; it is read where it is held
            return {key: replace(item) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [replace(item) for item in part]
        return new.get(part, part) if isinstance(part, str) else part

    collect(config)
    return replace(config)
