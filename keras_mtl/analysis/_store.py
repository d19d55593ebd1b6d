"""A store of finished training runs: a folder with a file for each, named by its fingerprint."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._files import folder_lock, read_json, whole_file, writable_folder
from keras_mtl.analysis._fingerprint import Fingerprint, versions

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

_DAY = 86400.0  # seconds


class RunStore:
    """Keeps finished runs in a folder, so that what was killed goes on.

    A run is found again by its key, a digest of what could have changed its
    result; its label only names the file. Runs of any settings lie side by
    side. Any number of processes may use one folder.

    Used as a context, which says at its end what could not be distinguished.

    Args:
        directory: Path of the folder, or `None` to keep nothing.
        initial_weights: Boolean. Whether runs from other initial weights are
            other ones. Where not, those of untrained models may differ, but
            not the frozen ones. Defaults to `True`.
        settings_digest: String. The digest of what all runs depend on, where
            it is known, such as that of another process's store. Defaults to
            `None`.
        **settings: What all runs depend on.

    Attributes:
        runs_read: Integer. How many runs were found.
        runs_trained: Integer. How many were made and kept.
        settings_digest: String. The digest of the settings; `None` where
            nothing is kept.
    """

    def __init__(
        self,
        directory: str | os.PathLike | None,
        initial_weights: bool = True,
        settings_digest: str | None = None,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.runs_read = self.runs_trained = 0
        self._folder = None if directory is None else writable_folder(directory, "directory")
        self._fingerprint = Fingerprint(initial_weights)
        if directory is not None and settings_digest is None:
            settings_digest = self._fingerprint.digest(versions=versions(), **settings)
        self.settings_digest = settings_digest

    def __enter__(self) -> RunStore:
        if self._fingerprint.unknown:
            self._warn()
        return self

    def __exit__(self, *_: Any) -> None:
        self._fingerprint.remember()

    @property
    def keeps(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    def digest(self, **parts: Any) -> str:
        """The digest of what some runs depend on, such as their model."""
        before = len(self._fingerprint.unknown)
        found = self._fingerprint.digest(**parts)
        if len(self._fingerprint.unknown) > before:
            self._warn()
        return found

    def key(self, **parts: Any) -> str | None:
        """The key of a run, from the settings and what it depends on besides."""
        return self.digest(settings=self.settings_digest, **parts) if self.keeps else None

    def has(self, key: str | None) -> bool:
        """Whether there is a run with a key, read or not."""
        return self._folder is not None and any(self._folder.glob(f"*-{key}.json"))

    def load(
        self,
        key: str | None,
        fields: Mapping[str, Any],
        network: keras.Model | None = None,
        check: Callable[[dict[str, Any]], Any] | None = None,
    ) -> dict[str, Any] | None:
        """The run with a key.

        Args:
            key: String.
            fields: Dict from the fields that a run has to their types.
            network: A model that takes the kept weights. Defaults to `None`.
            check: Function of the run that raises where its content is not
                what it should be. Defaults to `None`.

        Returns:
            Dict, or `None` if there is none, or none that can be read.
        """
        if self._folder is None:
            return None
        for path in sorted(self._folder.glob(f"*-{key}.json")):
            try:
                run = read_json(path, fields)
                if run.get("key") != key:
                    raise ValueError("it is of another run")
                if check is not None:
                    check(run)
                if network is not None:
                    self._load_weights(run, network)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                if isinstance(error, FileNotFoundError) and error.filename == str(path):
                    continue  # another process has taken it away
                if isinstance(error, PermissionError):
                    raise
                warnings.warn(f"{str(path)!r} cannot be used, and its run is made anew: {error}.", stacklevel=2)
            else:
                self.runs_read += 1
                return run
        return None

    def save(self, key: str | None, label: str, run: dict[str, Any], network: keras.Model | None = None) -> None:
        """Keeps a run. It appears at once, with its weights, or not at all.

        Args:
            key: String.
            label: String. What the file is called.
            run: Dict of JSON-compatible values.
            network: A model whose weights belong to it. Defaults to `None`.
        """
        if self._folder is None:
            return
        self.runs_trained += 1
        words = re.sub(r"[^\w]", "-", label, flags=re.ASCII)[:80]
        path = self._folder / f"{words}-{key}.json"
        run = {**run, "label": label, "key": key}
        with folder_lock(self._folder, "run's files", wait=math.inf):  # for as long as it takes to write them
            stale = [p for p in self._folder.glob(f"*-{key}.json") if p != path]
            if network is not None:
                stale += self._folder.glob(f"*-{key}-*.weights.h5")
                weights = self._folder / f"{words}-{key}-{secrets.token_hex(4)}.weights.h5"
                with whole_file(weights) as part:
                    network.save_weights(part)
                run["weights"] = {"file": weights.name, "crc": _crc(weights)}
            # The record says which weights are its own: until it is there, the old ones are, or none.
            try:
                with whole_file(path) as part:
                    part.write_text(json.dumps(run), encoding="utf-8")
            except BaseException:
                if network is not None:
                    weights.unlink(missing_ok=True)
                raise
            for old in [*stale, *self._left_by_kills()]:
                old.unlink(missing_ok=True)

    def _left_by_kills(self) -> Iterator[Path]:
        """Parts of files whose writers were killed: none takes a day."""
        for path in self._folder.glob(".*"):
            if re.fullmatch(r"\.[0-9a-f]{16}(\.weights\.h5|\.json)", path.name):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > _DAY:
                        yield path

    def say(self, progress: int | str | bool) -> None:
        """Prints what was read and what was trained, where progress is shown and runs are kept."""
        if progress and self.keeps:
            print(self.said())

    def said(self) -> str:
        """A sentence on what was read and what was trained."""
        return f"{self.runs_read} runs read from {str(self.directory)!r}, {self.runs_trained} trained."

    def _load_weights(self, run: Mapping[str, Any], network: MultiTaskModel) -> None:
        path = self._folder / run["weights"]["file"]
        if path.parent != self._folder or _crc(path) != run["weights"]["crc"]:
            raise ValueError(f"its weights, {path.name!r}, are not those that were kept with it")
        network.optimizer.build(network.trainable_variables)
        network.load_weights(path)

    def _warn(self) -> None:
        new = {name: what for name, what in self._fingerprint.unknown.items() if what is not None}
        self._fingerprint.unknown.update(dict.fromkeys(new))
        if new:
            listed = "; ".join(f"{name}: {what}" for name, what in new.items())
            warnings.warn(
                f"Runs in {str(self.directory)!r} are distinguished by all that could be read of their settings. Not, "
                f"or by its code alone, could be read: {listed}. Where that changes otherwise, take another folder.",
                stacklevel=3,
            )


def _crc(path: str | os.PathLike) -> int:
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            crc = zlib.crc32(piece, crc)
    return crc
