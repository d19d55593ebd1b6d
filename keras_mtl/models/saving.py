"""Files that are there whole or not at all."""

import contextlib
import os
import pathlib


@contextlib.contextmanager
def whole_file(path):
    """Gives the path to write to; the file takes its place only once it is whole.

    Keras writes where the file shall be. A process that is killed meanwhile
    leaves neither the old file nor the new one.

    Args:
        path: Path of a file on this machine.

    Yields:
        `pathlib.Path` in the same folder, with the same end of its name.
    """
    path = pathlib.Path(path)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())  # or a power failure could leave the name without the content
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def writable_folder(path, argument):
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
    probe = folder / f".{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"`{argument}` should be writable. Received: {argument}={str(path)!r} ({error})") from error
    return folder


def is_one_file(path, ending):
    """Whether a path is of one file on this machine with this end of its name.

    Args:
        path: String or path.
        ending: String.
    """
    text = str(path)
    return "://" not in text and text.endswith(ending) and not pathlib.Path(text).is_dir()
