"""A search within a budget of minutes."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras_tuner

from keras_mtl._checks import check_integer
from keras_mtl._files import read_json, whole_file, writable_folder
from keras_mtl.analysis._fingerprint import Fingerprint
from keras_mtl.tuning.estimates import estimate

if TYPE_CHECKING:
    from keras_mtl.tuning.sharing_hyper_model import SharingHyperModel

_SEED_0 = 2**31 - 1  # keras-tuner draws a seed where it is given 0


def budget_search(
    hypermodel: SharingHyperModel,
    objective: keras_tuner.Objective,
    *args: Any,
    minutes: float,
    epochs: int = 10,
    max_trials: int = 100,
    directory: str | os.PathLike = "runs/search",
    project_name: str = "search",
    seed: int | None = None,
    verbose: int | str = 1,
    **kwargs: Any,
) -> keras_tuner.RandomSearch:
    """Searches at random for about the given time, and says first how long it takes.

    It measures what a trial costs, takes as many trials as fit, prints the
    estimate and runs `keras_tuner.RandomSearch`. On a small machine, small
    models spend most of their time being built and traced; so every trial is
    one model trained once, a trial that has the structure of an earlier one is
    not traced again, and garbage collections pass over what was there before.

    Failed trials do not end it. After a kill, the same call goes on with the
    trials that were planned at first, whatever `minutes` say now. A call with
    another space, data, `max_trials` or number of epochs plans anew: as many
    trials as fit, besides those that the folder has.

    Args:
        hypermodel: A `keras_mtl.tuning.SharingHyperModel`.
        objective: A `keras_tuner.Objective`; see `keras_mtl.tuning.objective`.
        *args: Arguments of `fit`: the training data.
        minutes: Float. The time there is.
        epochs: Integer. Epochs of a trial. Defaults to `10`.
        max_trials: Integer. The most trials. Defaults to `100`.
        directory: Path of the tuner's directory. Defaults to `"runs/search"`.
        project_name: String. Folder in it. Defaults to `"search"`.
        seed: Integer. Seed of the tuner, 0 among them, which keras-tuner
            itself takes for none. Defaults to `None`.
        verbose: 0 or 1. Whether the estimate and the trials are printed.
            Defaults to `1`.
        **kwargs: Further arguments of `fit`, such as `validation_data`,
            `batch_size` and `callbacks`.

    Returns:
        The `keras_tuner.RandomSearch` after its search.

    Raises:
        ValueError: If `minutes` is not positive.
    """
    if not minutes > 0:
        raise ValueError(f"`minutes` should be positive. Received: minutes={minutes!r}")
    seed = check_integer(seed, "seed", or_none=True)
    plan = writable_folder(pathlib.Path(directory) / project_name, "directory") / "plan.json"
    tuner = keras_tuner.RandomSearch(
        hypermodel,
        objective,
        max_trials=max_trials,
        seed=_SEED_0 if seed == 0 else seed,
        directory=directory,
        project_name=project_name,
        max_consecutive_failed_trials=max_trials,
    )
    fit = {name: value for name, value in kwargs.items() if name != "callbacks"}
    space = tuner.oracle.get_space().get_config()
    depends_on = {"epochs": epochs, "most": max_trials, "space": space, "fit": [args, fit]}
    key = Fingerprint().digest(**depends_on)
    planned = _planned(plan, key)
    tuner.oracle.max_trials = max_trials if planned is None else planned
    expected = estimate(tuner, *args, epochs=epochs, **kwargs)
    if planned is None:
        expected = expected.within(60 * minutes)
        tuner.oracle.max_trials = min(max_trials, len(set(tuner.oracle.end_order)) + expected.trials)
        with whole_file(plan) as part:
            part.write_text(json.dumps({"trials": tuner.oracle.max_trials, "key": key}), encoding="utf-8")
    if verbose:
        print(f"{expected}. Given: {minutes:g} minutes.", flush=True)
    with quick_collections():
        tuner.search(*args, epochs=epochs, verbose=verbose, **kwargs)
    return tuner


def _planned(plan: Path, key: str) -> int | None:
    """How many trials were planned by a call like this one; `None` where there was none."""
    if not plan.exists():
        return None
    try:
        content = read_json(plan, {"trials": int, "key": str})
    except ValueError as error:
        warnings.warn(f"{str(plan)!r} cannot be used, and trials are planned anew: {error}.", stacklevel=3)
        return None
    return content["trials"] if content["key"] == key else None


@contextlib.contextmanager
def quick_collections() -> Iterator[None]:
    """Leaves what is there now out of garbage collections.

    keras-tuner collects twice before each trial, and each time Python walks all
    of TensorFlow's modules, which takes longer than an epoch of a small model.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
