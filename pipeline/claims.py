"""What answers leave open: of which kinds of change a tile may show an outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.interface import Prompt, PromptKind
from pipeline.judging import GivenAnswers, decide_change, read_texts

_BoolArray = npt.NDArray[np.bool_]


def list_witnesses(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Give the prompts whose answers tell whether something changed, or what."""
    kinds = {PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE}
    return tuple(prompt for prompt in prompts if prompt.kind in kinds)


def find_claims(
    prompts: Sequence[Prompt], *, texts: Mapping[str, Sequence[str]], kinds: Sequence[str], n_tiles: int
) -> _BoolArray:
    """Tell which kinds of change the answers about some tiles leave open, as `may_have_changed` says.

    Args:
        prompts: What `list_witnesses` gave.
        texts: The tiles' answers by the name of the prompt.
        kinds: Kinds of change, such as building.
        n_tiles: How many tiles there are.

    Returns:
        Flags of shape (tile, kind).
    """
    answers = {}
    for prompt in prompts:
        encoded = pa.array(texts[prompt.name], pa.string()).dictionary_encode()
        answers[prompt.name] = GivenAnswers(
            texts=encoded.dictionary,
            codes=encoded.indices.to_numpy(),
            confidences=np.zeros(n_tiles, dtype=np.float32),
        )
    told = {
        name: read_texts(prompt, texts=given.texts).take(given.codes)
        for prompt, (name, given) in zip(prompts, answers.items(), strict=True)
    }
    verdicts, _ = decide_change(prompts, answers=answers, told=told, n_tiles=n_tiles)
    columns: dict[str, pa.Array] = {}
    for meanings in told.values():
        columns |= meanings.columns
    missing = pa.nulls(n_tiles)
    claims = [
        may_have_changed(
            is_denied=verdicts == 0,
            cells=columns.get(f"{kind}_cells", missing.cast(pa.string())),
            counts=columns.get(f"{kind}_count", missing.cast(pa.int32())),
        )
        for kind in kinds
    ]
    return np.stack(claims, axis=1) if claims else np.zeros((n_tiles, 0), dtype=np.bool_)


def may_have_changed(*, is_denied: _BoolArray, cells: pa.Array, counts: pa.Array) -> _BoolArray:
    """Tell where the answers leave open that something of a kind changed.

    They do not where they deny any change, name no cell of that kind, or, asked for no cells, count none.

    Args:
        is_denied: Whether a tile is called unchanged.
        cells: The cells of the kind, as ``building_cells``; null where not told.
        counts: The count of the kind; null where not told.
    """
    has_none = pc.if_else(cells.is_null(), pc.equal(counts, 0), pc.equal(cells, "")).fill_null(False)
    return np.asarray(~is_denied & ~has_none.to_numpy(zero_copy_only=False), dtype=np.bool_)
