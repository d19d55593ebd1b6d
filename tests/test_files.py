"""The one writer of whole files and the one lock of folders."""

import errno
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from keras_mtl._files import folder_lock, whole_file, writable_folder

# Forks below run a few lines and end.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes, links and forks are of POSIX systems")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def in_child(run):
    """Runs a function in a process of its own and gives its exit code: 0, or 1 where it raised."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException as error:  # the child must never go on with the tests
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def as_another_user(run):
    def other():
        os.setegid(65534)
        os.seteuid(65534)
        run()

    return in_child(other)


needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root becomes another user")


@POSIX
@pytest.mark.parametrize("given", [0o600, 0o640, 0o755])
def test_an_old_file_keeps_its_mode(given, tmp_path):
    path = tmp_path / "a.json"
    path.touch()
    path.chmod(given)
    with whole_file(path) as part:
        assert mode(part) & 0o077 == 0  # nobody reads meanwhile what they could not read before
        part.write_text("new")
    assert (path.read_text(), mode(path)) == ("new", given)


@POSIX
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_what_the_umask_leaves(umask, tmp_path):
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "a.json") as part:
            part.write_text("new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a.json") == 0o666 & ~umask


@POSIX
def test_what_a_link_leads_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.json").write_text("old")
    for name, target in (("direct", "there/real.json"), ("chain", "direct"), ("dangling", "there/new.json")):
        (tmp_path / name).symlink_to(target)
        with whole_file(tmp_path / name) as part:
            part.write_text(name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == name
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["new.json", "real.json"]


@POSIX
def test_a_pipe_is_written_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(tmp_path / "pipe") as part:
        part.write_text("content")
    assert os.read(reader, 100) == b"content"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises((IsADirectoryError, PermissionError)), whole_file(tmp_path / "a.json") as part:
        part.write_text("new")
    with pytest.raises(FileNotFoundError, match=r"none.a\.json"), whole_file(tmp_path / "none" / "a.json"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    "name", ["m.keras", "m.weights.h5", ".hidden", "x" * 240 + ".keras", "v." + "1" * 250, "v1.0 a.b.weights.h5"]
)
def test_the_part_ends_as_the_file_and_has_a_name_that_nobody_knows(name, tmp_path):
    seen = set()
    for _ in range(3):
        with whole_file(tmp_path / name) as part:
            assert part.parent == tmp_path
            ending = ".weights.h5" if name.endswith(".weights.h5") else os.path.splitext(name)[1][-100:]
            assert part.name.endswith(ending)
            seen.add(part)
    assert len(seen) == 3
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_raises_leaves_the_old_file_alone(error, tmp_path):
    (tmp_path / "a.json").write_text("old")

    def write():
        with whole_file(tmp_path / "a.json") as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.json": "old"}


@POSIX
def test_a_disk_that_is_full_leaves_the_old_file_alone(tmp_path):
    (tmp_path / "a.json").write_text("old")

    def fill():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a full disk: a name fits, content does not
        with pytest.raises(OSError, match="large"), whole_file(tmp_path / "a.json") as part:
            part.write_bytes(bytes(5000))
        with pytest.raises(ValueError, match="`directory` should be writable"):
            writable_folder(tmp_path / "new", "directory")

    assert in_child(fill) == 0
    assert (tmp_path / "a.json").read_text() == "old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.json", "new"]


@pytest.mark.slow
@needs_root
def test_a_disk_of_two_mebibytes(tmp_path):
    disk, path = tmp_path / "disk", tmp_path / "disk" / "a.json"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        with whole_file(path) as part:
            part.write_bytes(bytes(2**20))
        with pytest.raises(OSError, match="No space left"), whole_file(path) as part:
            part.write_bytes(b"1" * 2**21)
        assert path.read_bytes() == bytes(2**20) and [p.name for p in disk.iterdir()] == ["a.json"]
        with pytest.raises(OSError, match="No space left"):
            (disk / "rest").write_bytes(bytes(2**21))
        with pytest.raises(ValueError, match=r"`log_dir` should be writable.*No space left"):
            writable_folder(disk / "logs", "log_dir")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def open_folder():
    """A folder that other users reach, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


@needs_root
def test_another_users_files(open_folder):
    tmp_path = open_folder
    (tmp_path / "theirs").mkdir(0o755)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine").chmod(0o777)
    read_only, open_to_all = tmp_path / "mine" / "read_only.json", tmp_path / "theirs" / "open.json"
    for path, given in ((read_only, 0o444), (open_to_all, 0o666)):
        path.write_text("old")
        path.chmod(given)

    def other():
        # Renaming would be allowed here, writing is not.
        with pytest.raises(PermissionError, match="read_only"), whole_file(read_only):
            pass
        with pytest.raises(PermissionError, match="new"), whole_file(tmp_path / "theirs" / "new.json"):
            pass
        with pytest.raises(ValueError, match="`log_dir` should be writable"):
            writable_folder(tmp_path / "theirs", "log_dir")
        with pytest.raises(ValueError, match="`log_dir` should be writable"):
            writable_folder(tmp_path / "theirs" / "below", "log_dir")
        with pytest.raises(PermissionError), folder_lock(tmp_path / "theirs", "search"):
            pass
        # Here plain writing is allowed, and a new file is not.
        with pytest.warns(UserWarning, match="in place"), whole_file(open_to_all) as part:
            part.write_text("new")

    assert as_another_user(other) == 0
    assert (read_only.read_text(), open_to_all.read_text()) == ("old", "new")
    assert [p.name for p in (tmp_path / "theirs").iterdir()] == ["open.json"]


@needs_root
def test_the_owner_stays(tmp_path):
    path = tmp_path / "a.json"
    path.touch()
    os.chown(path, 65534, 65534)
    with whole_file(path) as part:
        part.write_text("new")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_threads_write_one_path(tmp_path):
    errors = []

    def write(letter):
        try:
            for _ in range(20):
                with whole_file(tmp_path / "a.json") as part:
                    part.write_text(letter * 1000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "a.json").read_text() in {letter * 1000 for letter in "abc"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_made_and_left_empty(tmp_path):
    assert list(writable_folder(tmp_path / "a" / "b", "directory").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`directory` should be writable.*file"):
        writable_folder(tmp_path / "file", "directory")


def test_a_lock_is_one_owners(tmp_path):
    with folder_lock(tmp_path, "search"):
        with pytest.raises(RuntimeError, match=f"folder of a search should be used by one.*{tmp_path.name}"):
            folder_lock(tmp_path, "search").__enter__()
        began = time.monotonic()
        with pytest.raises(RuntimeError), folder_lock(tmp_path, "search", wait=0.2):
            pass
        assert time.monotonic() - began >= 0.2
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path, "search"):
        pass


HOLD = """
import sys, time
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("files", sys.argv[1])
files = module_from_spec(spec)
spec.loader.exec_module(files)
with files.folder_lock(sys.argv[2], "search"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_dead_owner_holds_no_lock(tmp_path):
    source = sys.modules[folder_lock.__module__].__file__
    with subprocess.Popen([sys.executable, "-c", HOLD, source, str(tmp_path)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(RuntimeError, match="another search is using"):
                folder_lock(tmp_path, "search").__enter__()
        finally:
            other.kill()
            other.wait()
    with folder_lock(tmp_path, "search"):
        pass


def test_a_lock_changes_hands_without_two_owners(tmp_path):
    inside, most, errors = [0], [0], []

    def work():
        try:
            for _ in range(5):
                with folder_lock(tmp_path, "search", wait=30):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.002)
                    inside[0] -= 1
        except (OSError, RuntimeError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, most) == ([], [1])
