"""Atomic writes, and locks on folders."""

import contextlib
import errno
import json
import os
import pathlib
import stat
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives the path to write to; the file takes its place only once it is whole.

    Keras writes where the file shall be. A process that is killed meanwhile
    leaves neither the old file nor the new one.

    The rest is as with plain writing: what a link leads to is written and the
    link stays, an existing file keeps its mode and, where that is allowed, its
    owner, a new one gets what the umask leaves, and a read-only file is an
    error. Any number of processes and threads may write one path: the last one
    counts. A file that may be written in a folder that may not is written in
    place, with a warning.

    Args:
        path: Path of a file on this machine.

    Yields:
        `pathlib.Path` of an empty file in the same folder, with the same end of
        its name. Nothing of it is left where the block raises.

    Raises:
        OSError: If the file may not or cannot be written.

    Example:

    >>> from keras_mtl._files import whole_file
    >>> with whole_file("losses.json") as part:
    ...     _ = part.write_text("[1.0, 0.5]")
    """
    target = pathlib.Path(os.path.realpath(path))
    old = _old_file(target)
    if old is not None and not stat.S_ISREG(old.st_mode):
        yield target  # a device or a pipe has no place to take
        return
    part = target.with_name(f".{os.urandom(8).hex()}{''.join(target.suffixes[-2:])[-100:]}")
    try:
        # Never there before, so neither a link nor another process's; private until it has the old file's mode.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if old is None else 0o600))
    except PermissionError:
        if old is None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None
        warnings.warn(
            f"{str(path)!r} is written in place, since its folder takes no new file: a kill meanwhile would damage it.",
            stacklevel=3,
        )
        yield target
        return
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        yield part
        with open(part, "r+b") as file:
            os.fsync(file.fileno())  # or a power failure could leave the name without the content
        if old is not None:
            _take_over(part, old)
        os.replace(part, target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _old_file(target: Path) -> os.stat_result | None:
    """The state of the file that is there, `None` where there is none; an error if it may not be written."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(old.st_mode) or stat.S_ISDIR(old.st_mode):
        os.close(os.open(target, os.O_WRONLY))  # renaming would not ask
    return old


def _take_over(part: Path, old: os.stat_result) -> None:
    made = os.stat(part)
    for uid, gid in ((-1, old.st_gid), (old.st_uid, -1)):
        if (made.st_gid if uid == -1 else made.st_uid) != (gid if uid == -1 else uid):
            with contextlib.suppress(PermissionError):
                os.chown(part, uid, gid)
    os.chmod(part, stat.S_IMODE(old.st_mode))


def _sync_folder(folder: str | os.PathLike) -> None:
    """Makes a rename survive a power failure, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def sync_files(folder: str | os.PathLike[str]) -> None:
    """Makes the files of a folder, and of those in it, survive a power failure: before it is named anywhere.

    Args:
        folder: Path of a folder on this machine.
    """
    for base, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(base, name), "r+b") as file:
                os.fsync(file.fileno())
        _sync_folder(base)


def writable_folder(path: str | os.PathLike, argument: str) -> Path:
    """Makes a folder and writes to it once, so that no long work is lost to one that cannot be written.

    Args:
        path: Path of a folder on this machine.
        argument: String. What the caller calls it, for the error.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        ValueError: If the folder cannot be made or written to.
    """
    folder = pathlib.Path(path)
    probe = folder / f".{os.urandom(8).hex()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(probe, "xb") as file:
                file.write(bytes(4096))  # a name fits on a disk where no content does
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"`{argument}` should be writable. Received: {argument}={str(path)!r} ({error})") from error
    return folder


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, what: str, wait: float = 0.0) -> Iterator[None]:
    """Has a folder to itself, among the processes and threads that ask for it too.

    The system keeps the lock with the open file: it ends with its process,
    however that ends, and does not depend on process ids, which containers
    share.

    Args:
        folder: Path of a folder on this machine, which is there.
        what: String. What is done in the folder, such as `"search"`, for the
            error.
        wait: Float. Seconds to wait for another one to end, `math.inf` for as
            long as it takes. Defaults to `0.0`.

    Raises:
        RuntimeError: If another process or thread has the folder.
    """
    path = pathlib.Path(folder) / ".lock"
    end = time.monotonic() + wait
    while (opened := _locked(path)) is None:
        if time.monotonic() >= end:
            raise RuntimeError(
                f"The folder of a {what} should be used by one at a time. Received: {str(folder)!r}, which another "
                f"{what} is using. Wait until it has ended, end it, or take another folder."
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: who has opened it already sees that it is gone
        os.close(opened)


def _locked(path: str | os.PathLike) -> int | None:
    """A descriptor that holds the lock, or `None` where another one does."""
    flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        try:
            opened = os.open(path, os.O_RDWR | flags, 0o666)
        except PermissionError:
            if not path.exists():
                raise
            opened = os.open(path, os.O_RDONLY)  # another user's file in a common folder
        try:
            if not _take(opened):
                os.close(opened)
                return None
            if os.path.samestat(os.fstat(opened), os.stat(path)):
                return opened
        except FileNotFoundError:
            pass  # its last owner removed it meanwhile
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)


def _take(opened: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # how either system says that another one has it
        return False
    return True


def read_json(path: str | os.PathLike, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A dict from a JSON file, checked.

    Args:
        path: Path.
        fields: Dict from the names that have to be there to their types.
            Defaults to `None`.

    Returns:
        Dict.

    Raises:
        ValueError: If the file is damaged, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__} in place of named values")
    for name, kind in (fields or {}).items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"it has no `{name}`")
    return content


@contextlib.contextmanager
def readable(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turns what goes wrong in a damaged file of one thing into an error that names the file.

    Args:
        path: Path.
        what: String. What the file should hold.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The file should hold {what}. Received: {str(path)!r}, {error}") from error


def is_one_file(path: str | os.PathLike, ending: str) -> bool:
    """Whether a path is of one file on this machine with this end of its name.

    Args:
        path: String or path.
        ending: String.
    """
    text = str(path)
    return "://" not in text and text.endswith(ending) and not pathlib.Path(text).is_dir()
