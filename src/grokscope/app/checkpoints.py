"""Reads checkpoints that may come from anybody, and checks that a run can go on from one."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import torch
from omegaconf import DictConfig, OmegaConf

from grokscope.analysis.run import printable
from grokscope.app.archives import OTHER, checked_copy
from grokscope.app.errors import UserError, leaves
from grokscope.app.folders import folder_of
from grokscope.app.saved_rows import missing_rows
from grokscope.app.stored import read_settings, value_at
from grokscope.store.checkpoint_files import FOLDER, LAST, scheduled
from grokscope.store.info import read_info
from grokscope.store.memory import TooLargeError
from grokscope.store.nofollow import NotPlainFileError

UNREADABLE = (AssertionError, AttributeError, ImportError, EOFError, OSError, MemoryError)
NEEDED = {"state_dict", "epoch", "global_step", "loops", "optimizer_states"}
ITSELF, MACHINE, ROWS = "itself", "machine", "rows"
MOST_LETTERS = 300  # that a checkpoint has a say in
KEPT = ("seed", "data", "net", "model", "measures", "trainer.precision")
FREE = ("data.data_dir", "data.download", "model.steps_per_call", "measures.on_nonfinite")


class TornCheckpointError(UserError):
    """A file that is no whole checkpoint of a run.

    Attributes:
        why: What is wrong with it.
        cause: ``ITSELF``, ``MACHINE`` where it may be whole all the same, since the disk or the
            memory does not let it be read, or ``ROWS`` where those before it are missing.
    """

    def __init__(self, path: Path, why: str, cause: str = ITSELF) -> None:
        why = printable(why if len(why) <= MOST_LETTERS else f"{why[:MOST_LETTERS]}...")
        super().__init__(f"ckpt_path must be a checkpoint of a run, got {path}: {why}.")
        self.path, self.why, self.cause = path, why, cause


class NoCheckpointError(UserError):
    """A run has nothing to go on from."""


class _HasState(Protocol):
    def state_dict(self) -> dict[str, Any]: ...


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint of tensors and plain values; nothing in it is executed.

    What is loaded is a copy in memory of what was checked (:mod:`grokscope.app.archives`), so for
    a moment a checkpoint takes twice its size.

    Raises:
        TornCheckpointError: If the file is not a Lightning checkpoint of that sort.
    """
    try:
        copy, size = checked_copy(path)
    except NotPlainFileError as error:
        raise TornCheckpointError(path, f"it is not a file but {error.came}") from error
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
        raise TornCheckpointError(path, why, MACHINE) from error
    except ValueError as error:
        cause = MACHINE if isinstance(error, TooLargeError) else ITSELF
        raise TornCheckpointError(path, str(error).rstrip("."), cause) from error
    except MemoryError as error:
        raise TornCheckpointError(path, "it does not fit into memory", MACHINE) from error
    content = _loaded(path, copy)
    try:
        _check_content(path, content, size)
    except (TypeError, ValueError, *UNREADABLE) as error:  # an entry that is only called a dict
        raise TornCheckpointError(path, OTHER) from error
    return content


def _loaded(path: Path, copy: BytesIO) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of its pickle protocol
            return torch.load(copy, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise TornCheckpointError(path, OTHER) from error
    except UNREADABLE as error:
        cause = MACHINE if isinstance(error, (OSError, MemoryError)) else ITSELF
        why = f"it cannot be read ({type(error).__name__})"
        raise TornCheckpointError(path, why, cause) from error


def _check_content(path: Path, content: Any, size: int) -> None:
    """Refuse what is not of a run, or takes more room than the file."""
    missing = NEEDED - set(content if isinstance(content, dict) else ())
    if missing:
        raise TornCheckpointError(path, f"no {', '.join(sorted(missing))} in it")
    if "hyper_parameters" in content:
        raise TornCheckpointError(path, "it names a class to build")
    if not _is_state(content["state_dict"]) or not _is_count(_passes(content)):
        raise TornCheckpointError(path, "its entries are not those of a run")
    if any(_claims(tensor) > size for tensor in _tensors(content)):
        raise TornCheckpointError(path, "a tensor in it claims more bytes than it has")


def read_with_rows(path: Path) -> dict[str, Any]:
    """The same, if the rows are there that it presumes; outside of a run's folder it has none.

    Raises:
        TornCheckpointError: If the file is damaged, or rows before it are missing.
        UserError: If a file of rows is gone or cannot be read.
    """
    content, folder = read_checkpoint(path), folder_of(path)
    if folder is not None and (why := missing_rows(folder, content, passes_done(content))):
        raise TornCheckpointError(path, why, ROWS)
    return content


def newest_whole(folder: Path) -> tuple[Path, dict[str, Any], str | None]:
    """The newest checkpoint of a run to go on from, its content, and a warning if others can't be.

    Raises:
        NoCheckpointError: If none is whole; then the run may begin anew.
        UserError: If one cannot be read that may be whole, or a file of rows; or if none has all
            its rows. To begin anew would delete them.
    """
    torn: list[TornCheckpointError] = []
    found = _read_whole(folder / FOLDER / LAST, torn)
    done = passes_done(found[1]) if found else -1
    for passes, path in reversed(scheduled(folder).items()):
        if passes > done and (newer := _read_whole(path, torn)):
            found, done = newer, passes
    if found:
        return *found, _passed_over(torn, found[0])
    why = f"{torn[0].path.name}: {torn[0].why}" if torn else "there is none"
    kind = UserError if any(error.cause == ROWS for error in torn) else NoCheckpointError
    raise kind(f"ckpt_path must lead to a whole checkpoint, got {folder}: {why}.")


def _read_whole(path: Path, torn: list[TornCheckpointError]) -> tuple[Path, dict[str, Any]] | None:
    """A checkpoint and its content; None if there is none, or if it is torn."""
    if path.is_file():
        try:
            return path, read_with_rows(path)
        except TornCheckpointError as error:
            if error.cause == MACHINE:
                raise UserError(
                    f"{path} must be read to go on, but {error.why}: try again, or go on from "
                    "another with ckpt_path=FILE."
                ) from error
            torn.append(error)
    return None


def _passed_over(torn: list[TornCheckpointError], used: Path) -> str | None:
    if not torn:
        return None
    names = ", ".join(error.path.name for error in torn)
    return f"{names} cannot be used ({torn[0].why}): going on from {used}."


def passes_done(content: dict[str, Any]) -> int:
    """Epochs that a checkpoint's run had done."""
    return int(_passes(content))


def check_architecture(
    path: Path, content: dict[str, Any], module: _HasState, key: str = "ckpt_path"
) -> None:
    """Refuse a checkpoint whose parameters are not the module's.

    Raises:
        UserError: Naming the first parameter that differs.
    """
    theirs = {name: tuple(t.shape) for name, t in content["state_dict"].items()}
    ours = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            raise UserError(
                f"{key} must hold this network, got {path}: parameter {name} has shape "
                f"{theirs.get(name, 'none')} there and {ours.get(name, 'none')} here."
            )


def check_same_settings(folder: Path, config: DictConfig) -> None:
    """Refuse to go on with a run under other settings than it began with.

    Its data, network, optimizer and measures stay; the length, schedules, loggers and the
    machine may change.

    Raises:
        UserError: Naming the first setting that differs.
    """
    if not (folder / "config.yaml").exists():
        return
    theirs = read_settings(folder)
    for key in (key for start in KEPT for key in _keys(config, start) if key not in FREE):
        ours, old = OmegaConf.select(config, key, default=key), value_at(theirs, key, key)
        if old != key and not isinstance(ours, DictConfig) and ours != old:
            raise UserError(
                f"{key} must stay {old!r} when ckpt_path goes on with {folder}, got {ours!r}."
            )


def only_the_end_is_left(path: Path, content: dict[str, Any], max_epochs: int) -> bool:
    """Whether a run has done its passes, but its process ended before it closed the files.

    Raises:
        UserError: If there is nothing left to do at all.
    """
    done, folder = passes_done(content), folder_of(path)
    if done < max_epochs:
        return False
    if done > max_epochs or folder is None or read_info(folder).get("status") == "finished":
        raise UserError(
            f"trainer.max_epochs must be more than the {done} epochs that {path} has done, "
            f"got {max_epochs}."
        )
    return True


def _is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(t, torch.Tensor) for t in state.values())


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    """Each tensor of nested lists and dicts, which may be knotted."""
    stack, seen = [content], set()
    while stack:
        node = stack.pop()
        if isinstance(node, torch.Tensor):
            yield node
        elif isinstance(node, (dict, list, tuple)) and id(node) not in seen:
            seen.add(id(node))
            stack += node.values() if isinstance(node, dict) else node


def _claims(tensor: torch.Tensor) -> int:
    """Bytes that it takes when it is copied; strides of zero repeat a few of a file."""
    return math.prod(tensor.shape) * tensor.element_size()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _passes(content: dict[str, Any]) -> Any:
    """Lightning's ``epoch`` is one less within an epoch's last hook; this count is not."""
    try:
        return content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except (IndexError, KeyError, TypeError):
        return None


def _keys(config: DictConfig, start: str) -> list[str]:
    node = OmegaConf.select(config, start)
    if not isinstance(node, DictConfig):
        return [start]
    return sorted(f"{start}.{k}" for k in leaves(OmegaConf.to_container(node, resolve=False)))
