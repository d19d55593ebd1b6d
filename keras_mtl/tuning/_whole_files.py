"""Atomic writes and consistency of keras-tuner's files."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mtl._files import folder_lock, read_json, whole_file
from keras_mtl._keras_tuner_private import project_folder, wrap_chief, wrap_files
from keras_mtl.tuning.launch import is_chief

if TYPE_CHECKING:
    import keras_tuner

_FIELDS: dict[str, dict[str, Any]] = {
    "oracle.json": {
        "ongoing_trials": dict,
        "hyperparameters": dict,
        "start_order": list,
        "end_order": list,
        "run_times": dict,
        "retry_queue": list,
        "seed": int,
        "seed_state": int,
        "tried_so_far": list,
        "id_to_hash": dict,
        "display": dict,
    },
    "trial.json": {"trial_id": str, "hyperparameters": dict, "metrics": dict, "status": str},
}


def keep_files_whole() -> None:
    """Makes what keras-tuner keeps of a search safe against a kill while it writes.

    - It empties a file and then writes it, several times in a trial. An empty
      `oracle.json` means that no search can be made for the same folder. Here
      a file takes its place only once it is written.
    - It writes `trial.json` of a new trial before `oracle.json`. A trial of
      which only the first knows would count and never be trained. Here it is
      handed out again.
    - It lets two chiefs hand out the trials of one folder, each over the
      other's. Here the second one is refused.

    A file that is damaged all the same is an error that names it. What the
    files hold does not change.
    """
    wrap_files(_save, _load)
    if is_chief():
        wrap_chief(_alone)


def _alone(start_server: Callable[..., Any], oracle: keras_tuner.Oracle) -> str:
    folder = project_folder(oracle)
    if "://" in folder:  # no folder of this machine
        return start_server(oracle)
    with folder_lock(folder, "search"):
        return start_server(oracle)


def _save(save_json: Callable[..., Any], path: str | os.PathLike, obj: object) -> str:
    if "://" in str(path):  # no file of this machine
        return save_json(path, obj)
    with whole_file(path) as part:
        return save_json(str(part), obj)


def _checked(file: Path) -> dict[str, Any]:
    """What a file of keras-tuner holds."""
    try:
        of_trial = file.name == "trial.json" and file.parent.name.startswith("trial_")
        state = read_json(file, _FIELDS.get(file.name) if of_trial or file.name == "oracle.json" else None)
        if of_trial and file.parent.name != f"trial_{state['trial_id']}":
            raise ValueError(f"it is of trial {state['trial_id']!r}")
    except ValueError as error:
        folder = file.parents[file.name == "trial.json"]
        raise ValueError(
            f"A search should go on from files that keras-tuner wrote. Received: {str(file)!r}, {error}. Put a copy of "
            f"the file back, or begin anew: in another folder, or with `overwrite=True`, which deletes {str(folder)!r}."
        ) from error
    return state


def _load(load_json: Callable[..., Any], path: str | os.PathLike) -> dict[str, Any]:
    file = pathlib.Path(str(path))
    if not file.is_file():  # not of this machine, or not there
        return load_json(path)
    state = _checked(file)
    if file.name == "oracle.json":
        trials = [_checked(p)["trial_id"] for p in sorted(file.parent.glob("trial_*/trial.json"))]
        lost = [trial for trial in trials if trial not in state["start_order"]]
        state["start_order"] += lost
        state["retry_queue"] += lost
    return state
