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


def is_one_file(path, ending):
    """Whether a path is of one file on this machine with this end of its name.

    Args:
        path: String or path.
        ending: String.
    """
    text = str(path)
    return "://" not in text and text.endswith(ending) and not pathlib.Path(text).is_dir()
