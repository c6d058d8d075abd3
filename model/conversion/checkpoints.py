"""Weight files of others, read as data alone and one tensor at a time.

Of a file only names, shapes and dtypes are held; `open_tensors` maps its bytes and gives tensors as they are asked for.
Mapped pages count as memory until the file is closed, so callers close it after each portion.
"""

from __future__ import annotations

import errno
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.errors import InputError

SAFETENSORS_SUFFIX = ".safetensors"
PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
STATE_KEYS = ("model", "module", "state_dict")
"""Where a checkpoint keeps its state dict, if it holds more than that."""

DTYPES_BY_CODE = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What the header of a safetensors file calls them."""

_UNREADABLE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError, OSError)
"""What torch raises over bytes that are no checkpoint, depending on where they first make no sense."""


@dataclass(frozen=True, kw_only=True)
class TensorFacts:
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Size of its values."""
        n_bytes = self.dtype.itemsize
        for side in self.shape:
            n_bytes *= side
        return n_bytes


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A file with named tensors."""

    path: Path
    tensors: Mapping[str, TensorFacts]
    """In the file's order, which for a checkpoint is that of the module's parameters."""


def find_weight_files(path: Path) -> list[Path]:
    """Give the files that hold a model's weights.

    Args:
        path: One such file, or a folder in transformers' layout, with or without an index of its shards; safetensors
            count before pickles where a folder has both.

    Returns:
        The files, in order; none for a folder with config and tokenizer alone.

    Raises:
        InputError: nothing is there, or an index names a file that is not.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"no file or folder at {path}", expected="weights", remedy="correct the path")
    for stem, suffix in (("model", SAFETENSORS_SUFFIX), ("pytorch_model", ".bin")):
        if (index := path / f"{stem}{suffix}.index.json").is_file():
            return _list_indexed_files(index)
        if (single := path / f"{stem}{suffix}").is_file():
            return [single]
        if shards := sorted(path.glob(f"{stem}*{suffix}")):
            return shards
    return []


def _list_indexed_files(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"{index} cannot be read", expected="JSON with a weight_map", remedy="fetch it again"
        ) from None
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{index.parent} lacks {len(missing)} of {len(names)} weight files, first {missing[0]}",
            expected=f"all that {index.name} names",
            remedy="fetch the missing ones",
        )
    return [index.parent / name for name in names]


def read_weight_file(path: Path) -> WeightFile:
    """Read which tensors a file holds.

    Raises:
        InputError: the file is cut off, is of another kind, or holds more than data.
    """
    if path.suffix == SAFETENSORS_SUFFIX:
        with _open_safetensors(path) as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - this is no mapping
            facts = {
                key: TensorFacts(shape=tuple(part.get_shape()), dtype=_find_dtype(part.get_dtype(), path=path))
                for key, part in slices.items()
            }
    else:
        state = find_state(load_pickle(path), path=path)
        facts = {key: TensorFacts(shape=tuple(value.shape), dtype=value.dtype) for key, value in state.items()}
    return WeightFile(path=path, tensors=facts)


@contextmanager
def open_tensors(path: Path) -> Iterator[Callable[[str], Tensor]]:
    """Open a weight file; what comes gives the tensor of a key, to be copied before the file is closed.

    Raises:
        InputError: as `read_weight_file`.
    """
    if path.suffix == SAFETENSORS_SUFFIX:
        with _open_safetensors(path) as file:
            yield file.get_tensor
    else:
        yield find_state(load_pickle(path), path=path).__getitem__


def load_pickle(path: Path) -> Any:
    """Load what ``torch.save`` wrote, tensors mapped from the file where its format allows that.

    Nothing in the file is run: anything but tensors, numbers, texts and containers of them is refused.

    Raises:
        InputError: the file is cut off, is no such file, or holds more than data.
    """
    if path.suffix not in PICKLE_SUFFIXES:
        raise InputError(
            f"{path} ends in {path.suffix!r}",
            expected=f"weights ending in {SAFETENSORS_SUFFIX}, {', '.join(PICKLE_SUFFIXES)}, or a folder with such "
            "files",
            remedy="correct the path",
        )
    try:
        with path.open("rb") as stream:
            # Files in torch's format from before 1.6, which is no zip, can only be loaded as a whole.
            is_zip = stream.read(4) == b"PK\x03\x04"
        with warnings.catch_warnings():
            # On a pickle that torch did not write it warns first and fails then; the error is enough.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as problem:
        raise _refuse_objects(path, str(problem)) from None
    except _UNREADABLE as problem:
        raise _refuse_damaged(path, problem) from None


def find_state(payload: Any, *, path: Path) -> Mapping[str, Tensor]:
    """Find the state dict in what a pickle holds: the whole of it, or what stands under one of `STATE_KEYS`.

    Raises:
        InputError: there is none.
    """
    candidates = [payload]
    if isinstance(payload, Mapping):
        candidates += [payload[key] for key in STATE_KEYS if key in payload]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return candidate
    keys = ", ".join(map(str, payload)) if isinstance(payload, Mapping) else type(payload).__name__
    raise InputError(
        f"{path} holds no state dict but {keys[:200]}",
        expected=f"tensors by name, bare or under {', '.join(STATE_KEYS)}",
        remedy="give another file",
    )


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as problem:
        raise _refuse_damaged(path, problem) from None
    with file:
        yield file


def _find_dtype(code: str, *, path: Path) -> torch.dtype:
    if code not in DTYPES_BY_CODE:
        raise InputError(
            f"{path} holds tensors of {code}",
            expected=f"one of {', '.join(DTYPES_BY_CODE)}",
            remedy="give weights that are not quantised",
        )
    return DTYPES_BY_CODE[code]


def _refuse_objects(path: Path, message: str) -> InputError:
    # torch's own message advises to switch the check off, which must not be passed on.
    named = re.search(r"GLOBAL:? (\w[\w.]*\.\w+)", message)
    if named is None:
        return _refuse_damaged(path, None)
    return InputError(
        f"{path} holds more than data: it asks for {named[1]}, and nothing of it was run",
        expected="tensors, numbers and texts alone",
        remedy="get the weights from a source you trust, best as safetensors",
    )


def _refuse_damaged(path: Path, problem: Exception | None) -> InputError:
    is_cut = isinstance(problem, EOFError) or (isinstance(problem, OSError) and problem.errno == errno.EINVAL)
    # ^ EINVAL: it was to be mapped into memory beyond its end.
    reason = "it ends too early" if is_cut else "its bytes make no sense"
    if not is_cut and isinstance(problem, RuntimeError | SafetensorError | OSError):
        reason = " ".join(str(problem).split()).split(". ")[0][:120]
    return InputError(
        f"{path} ({path.stat().st_size} bytes) cannot be read: {reason}",
        expected="a whole file as torch.save or safetensors writes it",
        remedy="compare its size with the source's and fetch it again",
    )
