"""The search space of weightings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl import weighting as weightings
from keras_mtl.models._arguments import check_task_names

if TYPE_CHECKING:
    import keras_tuner

    from keras_mtl.weighting.base import Weighting

_LOG = {"sampling": "log"}
# For each method, the parameters that are searched: a method of `hp`, its arguments, and a dict of further ones.
PARAMETERS: dict[str, dict] = {
    "aligned": {"scale_mode": ("Choice", (["min", "median", "rmse"],))},
    "cagrad": {"c": ("Float", (0.1, 1.0), {"default": 0.5})},
    "dbmtl": {"beta": ("Float", (0.5, 0.99), {"default": 0.9})},
    "dtp": {"gamma": ("Float", (0.25, 4.0), {**_LOG, "default": 1.0})},
    "dwa": {"temperature": ("Float", (0.5, 8.0), {**_LOG, "default": 2.0})},
    "excess": {"learning_rate": ("Float", (1e-3, 1e-1), {**_LOG, "default": 1e-2})},
    "fairgrad": {"alpha": ("Float", (0.25, 4.0), {**_LOG, "default": 1.0})},
    "famo": {"learning_rate": ("Float", (1e-3, 1e-1), {**_LOG, "default": 0.025})},
    "graddrop": {"leak": ("Float", (0.0, 0.9))},
    "gradnorm": {
        "alpha": ("Float", (0.1, 3.0), {"default": 1.5}),
        "learning_rate": ("Float", (1e-3, 1e-1), {**_LOG, "default": 0.025}),
    },
    "gradvac": {"beta": ("Float", (1e-3, 0.5), {**_LOG, "default": 0.01})},
    "mgda": {"normalize": ("Choice", (["none", "norm", "loss+"],))},
    "moco": {"beta": ("Float", (0.05, 0.95), {"default": 0.5}), "learning_rate": ("Float", (1e-3, 1.0), _LOG)},
    "modo": {"learning_rate": ("Float", (1e-4, 1e-1), _LOG), "rho": ("Float", (0.0, 0.5))},
    "nash": {"max_norm": ("Float", (0.3, 10.0), {**_LOG, "default": 1.0})},
    "relobralo": {"temperature": ("Float", (0.01, 10.0), {**_LOG, "default": 1.0})},
    "sdmgrad": {"lam": ("Float", (0.1, 3.0), {**_LOG, "default": 0.3})},
    "softadapt": {"beta": ("Float", (0.01, 10.0), {**_LOG, "default": 0.1})},
    "stch": {"mu": ("Float", (0.1, 10.0), {**_LOG, "default": 1.0})},
    "uw_so": {"temperature": ("Float", (0.1, 100.0), {**_LOG, "default": 1.0})},
}


def weighting_space(
    hp: keras_tuner.HyperParameters,
    tasks: Sequence[str],
    *,
    methods: str | Collection[str] = ("equal",),
    static: tuple[float, float] | None = None,
    gradients: str | Sequence[str] = ("parameters",),
) -> dict[str, Any]:
    """Search space of weightings and their parameters.

    Everything is declared at once, a method's parameters under the condition
    that it is chosen. Names are `"weighting"` (where there are several
    methods), `"<method>/<parameter>"`, `"gradients"` and
    `"static_weight/<task>"`.

    Static weights are searched relative to the first task's and then scaled to
    a mean of 1: only their ratios matter, and no choice shrinks all losses at
    once. That does not make `val_loss` a fair objective, since the ratios
    still change it; see `keras_mtl.tuning.objective`.

    Args:
        hp: `keras_tuner.HyperParameters`.
        tasks: Collection of tasks.
        methods: Collection of names, of `keras_mtl.weighting.names()`.
            Defaults to `("equal",)`.
        static: `None` or a tuple `(low, high)`: the range of a static weight
            relative to the first task's. Defaults to `None`: all 1.
        gradients: Collection of what `compile(gradients=...)` takes, for
            methods that see a Gramian. Defaults to `("parameters",)`.

    Returns:
        Dict of arguments of `compile`: `weighting`, `gradients` and
        `loss_weights`.

    Raises:
        ValueError: If a method or a way to take gradients is unknown, or the
            range is not positive and in order.

    Example:

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> options = keras_mtl.tuning.weighting_space(hp, ["a", "b"], methods=["uncertainty", "dwa"], static=(0.1, 10.0))
    >>> type(options["weighting"]).__name__, options["loss_weights"]
    ('Uncertainty', {'a': 1.0, 'b': 1.0})
    >>> [p.name for p in hp.space]
    ['weighting', 'dwa/temperature', 'static_weight/b']
    """
    tasks = check_task_names(tasks)
    methods = [methods] if isinstance(methods, str) else list(methods)
    unknown = [name for name in methods if name not in weightings.names()]
    if unknown or not methods:
        raise ValueError(f"`methods` should name some of {weightings.names()}. Received: {unknown or methods}")
    chosen = hp.Choice("weighting", methods) if len(methods) > 1 else methods[0]
    found = {name: _parameters(hp, name, alone=len(methods) == 1) for name in methods}
    return {
        "weighting": _make(chosen, found[chosen]),
        "gradients": _gradients(hp, methods, chosen, gradients),
        "loss_weights": _static_weights(hp, tasks, static),
    }


def trained_with(values: Mapping[str, Any], shares_nothing: bool) -> Mapping[str, Any]:
    """The values of hyperparameters as `SharingHyperModel` trains with them.

    Args:
        values: Dict from hyperparameter to value.
        shares_nothing: Boolean. Whether the model shares no variable. Then
            methods that see task gradients have nothing to weigh.

    Returns:
        Dict as `values`; with "equal" in place of such a method, and without
        its parameters.
    """
    chosen = values.get("weighting")
    if not shares_nothing or chosen not in weightings.names() or not weightings.get(chosen).sees_gradients:
        return values
    kept = {k: v for k, v in values.items() if k != "gradients" and not k.startswith(f"{chosen}/")}
    return kept | {"weighting": "equal"}


def _parameters(hp: keras_tuner.HyperParameters, name: str, alone: bool) -> dict[str, Any]:
    when = {} if alone else {"parent_name": "weighting", "parent_values": [name]}
    return {
        parameter: getattr(hp, kind)(f"{name}/{parameter}", *args, **{**(more[0] if more else {}), **when})
        for parameter, (kind, args, *more) in PARAMETERS.get(name, {}).items()
    }


def _make(name: str, parameters: Mapping[str, Any]) -> Weighting:
    # A choice among strings has no None.
    return type(weightings.get(name))(**{key: None if value == "none" else value for key, value in parameters.items()})


def _gradients(
    hp: keras_tuner.HyperParameters, methods: Sequence[str], chosen: str, gradients: str | Sequence[str]
) -> str:
    known = ("parameters", "last_shared", "features")
    gradients = [gradients] if isinstance(gradients, str) else list(gradients)
    if not gradients or any(place not in known for place in gradients):
        raise ValueError(f"`gradients` should be some of {known}. Received: gradients={gradients!r}")
    see_gramian = [name for name in methods if isinstance(weightings.get(name), weightings.GramianWeighting)]
    place = gradients[0]
    if len(gradients) > 1 and see_gramian:
        when = {} if len(methods) == 1 else {"parent_name": "weighting", "parent_values": see_gramian}
        place = hp.Choice("gradients", gradients, **when)
    return place if chosen in see_gramian else "parameters"


def _static_weights(
    hp: keras_tuner.HyperParameters, tasks: Sequence[str], static: tuple[float, float] | None
) -> dict[str, float]:
    if static is None:
        return dict.fromkeys(tasks, 1.0)
    if not isinstance(static, (list, tuple)) or len(static) != 2 or not 0 < static[0] <= static[1]:
        raise ValueError(f"`static` should be a pair of positive numbers, low and high. Received: static={static!r}")
    low, high = map(float, static)
    default = min(max(1.0, low), high)
    relative = {tasks[0]: 1.0}
    for task in tasks[1:]:
        relative[task] = hp.Float(f"static_weight/{task}", low, high, sampling="log", default=default)
    mean = sum(relative.values()) / len(tasks)
    return {task: weight / mean for task, weight in relative.items()}
