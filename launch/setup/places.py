"""Where the files go that a run and its libraries write beside the run folder: one owner of temporary and cached files.

    Scratch          private, with a short path, removed with the run: TMPDIR of its processes, Ray's session, sockets
    choose_caches    kept between runs: models, compiled kernels, settings of libraries
    private_files    what a process writes is readable by its user alone

Each folder is tried before it is used: a file is written there, and in a scratch folder a socket is bound and
a lock is taken. What a person has set stays. Libraries read these variables when they are imported, which comes later.
"""

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from buffer import files
from configs.load import ConfigError
from configs.paths import expanded

DRAFT, PREFIX = "spct-", "spct."  # of a folder that is being made, and of a scratch folder, which its driver holds locked
LONGEST_ROOT = 26  # bytes: with the names of the scratch folder and of Ray's sockets below it they are 107, the most on Linux
PROBE_BYTES = 1 << 16  # written to try a folder: a full disk or a quota takes an empty file
BOOT_FILE = "boot"  # in a scratch folder: under which boot of which machine its driver holds the lock
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SCRATCH_ROOTS = ("/tmp", "/var/tmp", "/dev/shm")
# What libraries keep in the home folder, by the variable that moves it. CUDA, Triton and flashinfer do not follow XDG.
HOME_FOLDERS = {
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
    "TRITON_HOME": ".triton",
    "TRITON_CACHE_DIR": ".triton/cache",
    "FLASHINFER_WORKSPACE_BASE": ".cache",
    "TILELANG_CACHE_DIR": ".tilelang/cache",
    "CUDA_CACHE_PATH": ".nv/ComputeCache",
}
# Of Hugging Face, what is written even where models are only read.
HF_WRITTEN = {
    "HF_DATASETS_CACHE": "datasets",
    "HF_MODULES_CACHE": "modules",
    "HF_ASSETS_CACHE": "assets",
    "HF_XET_CACHE": "xet",
}

_chosen: dict[str, str] = {}  # variables of this process that `choose_caches` has set


# ---- temporary files -------------------------------------------------------------------------------------------------


def scratch_root() -> Path:
    """Returns the folder in which scratch folders are made: TMPDIR if it will do, else the first of a few others that will.

    Raises:
        ConfigError: None will; it names each with the reason.
    """
    candidates = (os.environ.get("TMPDIR"), *SCRATCH_ROOTS[:2], os.environ.get("XDG_RUNTIME_DIR"), *SCRATCH_ROOTS[2:])
    problems = {}
    for root in filter(None, candidates):
        if len(os.fsencode(os.path.abspath(root))) > LONGEST_ROOT:
            problems[root] = f"its path has over {LONGEST_ROOT} bytes, too many for sockets"
        elif problem := write_problem(root, scratch=True):
            problems[root] = problem
        else:
            return Path(root).absolute()
    tried = "; ".join(f"{root}: {problem}" for root, problem in problems.items())
    raise ConfigError(f"no folder for temporary files ({tried}): set TMPDIR to a short path that can be written")


class Scratch:
    """The folder of what is temporary in a run. Only its user can enter it, whatever modes are set below, as by Ray."""

    def __init__(self) -> None:
        """Makes nothing yet."""
        self._folder: Path | None = None
        self._lock = -1
        self._before: tuple[str | None, str | None] | None = None  # TMPDIR, and what Python made of it

    @property
    def folder(self) -> Path:
        """The folder, between `make` and `remove`."""
        assert self._folder is not None
        return self._folder

    def make(self) -> None:
        """Make the folder; remove those of runs whose driver was killed. ConfigError when there is no place for it.

        It is locked for as long as this process lives; that also keeps systemd from removing what is old in it.
        """
        root = scratch_root()
        _remove_left_behind(root)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=DRAFT, dir=root))  # 0700 whatever the umask
            files.write(self._folder / BOOT_FILE, _boot())
            self._lock = _lock(self._folder)
            self._folder = self._folder.rename(root / self._folder.name.replace(DRAFT, PREFIX, 1))  # locked before it is seen
        except OSError as error:
            self.remove()
            raise ConfigError(
                f"no folder for temporary files in {root} ({error.strerror}): set TMPDIR to another one"
            ) from error

    def use(self) -> None:
        """Make it the place of temporary files, in this process and in those that it starts from here on."""
        if self._before is None:
            self._before = os.environ.get("TMPDIR"), tempfile.tempdir
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)

    def variables(self) -> dict[str, str]:
        """Returns the variables of processes on this machine that do not inherit them: TMPDIR, and where compiled kernels stay,
        which would else be in TMPDIR and gone with the run."""
        kernels = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
        return {"TMPDIR": str(self.folder), **({"TORCHINDUCTOR_CACHE_DIR": kernels} if kernels else {})}

    def remove(self) -> None:
        """Remove the folder, and use it no longer; harmless when repeated."""
        if self._before is not None:
            variable, tempfile.tempdir = self._before
            self._before = None
            os.environ.pop("TMPDIR")
            os.environ.update({} if variable is None else {"TMPDIR": variable})
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # a dying daemon may still write its last log line
            self._folder = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_left_behind(root: Path) -> None:
    """Remove the user's scratch folders that no living driver on this machine holds.

    Where TMPDIR is on a network a lock may be seen by its own machine only, so what other machines left is not looked at.
    """
    boot = _boot()
    for folder in root.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid != os.geteuid() or not boot or (folder / BOOT_FILE).read_bytes() != boot.encode():
                continue
            lock = _lock(folder)
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(folder: str | Path) -> int:
    """Returns the descriptor that holds a folder locked until it is closed, or this process ends. OSError when another has it,
    or when the file system has no such locks."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _boot() -> str:
    """Returns what no other machine has, nor this one after it is started again; "" where the system does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


# ---- caches ----------------------------------------------------------------------------------------------------------


def choose_caches(fallback: Path) -> None:
    """Point libraries to folders that they can write, for this process and those that it starts.

    A folder in the home that can be written stays what it is. One that cannot, as in a home that is read-only, full or not
    there, is replaced by one in `fallback`. Models that lie in a read-only home, or in an HF_HOME that is read-only, are still
    read there.

    Args:
        fallback: Made when it is needed.

    Raises:
        ConfigError: Neither the usual place nor `fallback` can be written, or XDG_CACHE_HOME is set to one that cannot.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if given and (problem := write_problem(_existing(given))):
        raise ConfigError(f"XDG_CACHE_HOME={given} cannot be written ({problem}): correct it, or unset it")
    home = os.path.expanduser("~")
    if not os.path.isdir(home):  # nothing to lose there
        home = _set("HOME", fallback)
    known_models = os.path.join(given or os.path.join(home, ".cache"), "huggingface")
    usable: dict[str, bool] = {}
    for variable, name in HOME_FOLDERS.items():
        place = _existing(os.path.join(home, name))
        if place not in usable:
            usable[place] = not write_problem(place)
        if not os.environ.get(variable) and not usable[place]:
            _set(variable, fallback / name.strip("."))
    readable = os.access(known_models, os.R_OK | os.X_OK)
    if "XDG_CACHE_HOME" in _chosen and readable and not os.environ.get("HF_HOME"):
        _chosen["HF_HOME"] = os.environ["HF_HOME"] = known_models
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    models = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    if write_problem(_existing(expanded(models))):
        for variable, name in HF_WRITTEN.items():
            if not os.environ.get(variable):
                _set(variable, fallback / "huggingface" / name)
    if not os.environ.get("TORCHINDUCTOR_CACHE_DIR"):  # else it is in TMPDIR: gone with the run, or for anyone to make first
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(cache, "torchinductor")
        if _chosen:
            _chosen["TORCHINDUCTOR_CACHE_DIR"] = os.environ["TORCHINDUCTOR_CACHE_DIR"]


def chosen_variables() -> Mapping[str, str]:
    """Returns the variables that `choose_caches` has set, for processes that do not inherit them."""
    return dict(_chosen)


def _set(variable: str, folder: Path) -> str:
    """Make a cache folder and let the variable name it. Returns its path. ConfigError when it cannot be made or written."""
    place = os.path.abspath(folder)
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.makedirs(place, mode=0o700, exist_ok=True)
        problem = write_problem(place)
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise ConfigError(
            f"no folder for cached files: the home folder cannot be written, nor can {place} ({problem}):"
            " give a run.dir (--out) that can be written, or set HOME or XDG_CACHE_HOME"
        )
    _chosen[variable] = os.environ[variable] = place
    return place


def _existing(path: str) -> str:
    """Returns the path, or what exists of it."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


# ---- both ------------------------------------------------------------------------------------------------------------


@contextmanager
def private_files() -> Iterator[None]:
    """What this process makes inside the block only its user can read, unless it asks for other modes.

    For the driver once its workers are started: they go by the user's own umask, since they may download models into caches
    that several users share.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def write_problem(folder: str | Path, *, scratch: bool = False) -> str:
    """Returns why no file (and for a scratch folder no socket and no lock) can be made in a folder, "" when it can."""
    try:
        with tempfile.TemporaryDirectory(prefix=DRAFT, dir=folder) as probe:
            with open(os.path.join(probe, "probe"), "wb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
            if scratch:
                os.close(_lock(probe))
                with socket.socket(socket.AF_UNIX) as bound:
                    bound.bind(os.path.join(probe, "socket"))
    except OSError as error:
        return error.strerror or str(error)
    return ""
