"""Puts the questions of an evaluation to a model, many tiles at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import cast

import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.evaluation.cases import AnsweredCase, AnsweredTile, EvaluationTile, Skipped, SwapAnswers
from model.evaluation.mask_scores import PixelCounts, count_pixels
from model.evaluation.outlines import MaskedTile, mask_tiles
from model.evaluation.scores import KINDS, read_cells
from model.interface import Answer, ChangeMasks, ChangeModel, MaskModel, Prompt, PromptKind
from model.pairs.folders import MASK_VALUES
from model.parsing import ParsedLocate

TILES_AT_ONCE = 64
"""Most tiles that are held in memory; also most that are given to the model in one call."""


def answer_tiles(
    model: ChangeModel,
    tiles: Iterable[EvaluationTile],
    *,
    swap_prompt: Prompt | None = None,
    skipped: list[Skipped],
) -> Iterator[tuple[AnsweredTile, MaskedTile | None]]:
    """Ask all that is to be asked about every tile.

    A batch that the model refuses is halved and asked again, until the tile is found that it cannot answer.

    Args:
        model: What answers; its masks are compared too where it gives some and the tile has one.
        tiles: Of any sizes; those of one size that follow each other are asked together.
        swap_prompt: Asked with the dates swapped of tiles with changed buildings; left out, nothing is.
        skipped: Gets the tiles that the model cannot answer.

    Yields:
        What came back for a tile, and what its masks show, of a model that gives some.

    Raises:
        InputError: not one tile of a whole batch can be answered: a server may have gone, and asking on would only
            take long. What the model said of the first.
    """
    for _, of_one_size in groupby(tiles, key=lambda tile: tile.pixels.shape):
        for batch in _cut_batches(of_one_size):
            refused: list[tuple[str, InputError]] = []
            answered = _try_batch(model, batch, swap_prompt=swap_prompt, refused=refused)
            if not answered:
                raise refused[0][1]
            skipped += [Skipped(name=name, reason=str(problem)) for name, problem in refused]
            yield from answered


def _try_batch(
    model: ChangeModel,
    batch: Sequence[EvaluationTile],
    *,
    swap_prompt: Prompt | None,
    refused: list[tuple[str, InputError]],
) -> list[tuple[AnsweredTile, MaskedTile | None]]:
    try:
        return _answer_batch(model, batch, swap_prompt=swap_prompt)
    except InputError as problem:
        if getattr(problem, "is_for_all", False):
            raise
        if len(batch) == 1:
            refused.append((batch[0].name, problem))
            return []
    half = len(batch) // 2
    return [
        tile
        for part in (batch[:half], batch[half:])
        for tile in _try_batch(model, part, swap_prompt=swap_prompt, refused=refused)
    ]


def _cut_batches(tiles: Iterable[EvaluationTile]) -> Iterator[list[EvaluationTile]]:
    batch: list[EvaluationTile] = []
    for tile in tiles:
        batch.append(tile)
        if len(batch) == TILES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _answer_batch(
    model: ChangeModel, batch: Sequence[EvaluationTile], *, swap_prompt: Prompt | None
) -> list[tuple[AnsweredTile, MaskedTile | None]]:
    pixels = np.stack([tile.pixels for tile in batch])
    answers = _answer_cases(model, batch, pixels=pixels)
    answered = [
        tuple(
            AnsweredCase(tile=tile.name, scene=tile.scene, case=case, answer=answer)
            for case, answer in zip(tile.cases, of_tile, strict=True)
        )
        for tile, of_tile in zip(batch, answers, strict=True)
    ]
    masks = _predict_masks(model, batch, pixels=pixels)
    counts = {} if masks is None else _count_masks(masks, batch, answered=answered)
    swapped = None if masks is None or "removed" not in masks.aspects else _predict_swapped(model, batch, pixels=pixels)
    masked = [None] * len(batch) if masks is None else mask_tiles(masks, batch, answered=answered, swapped=swapped)
    swaps = _describe_both_ways(model, batch, pixels=pixels, prompt=swap_prompt)
    return [
        (
            AnsweredTile(
                name=tile.name,
                scene=tile.scene,
                flag=tile.flag,
                facts=tile.labelled.facts if tile.labelled is not None else None,
                answered=answered[index],
                pixel_counts=counts.get(index, {}),
                swap=swaps.get(index),
            ),
            masked[index],
        )
        for index, tile in enumerate(batch)
    ]


def _answer_cases(
    model: ChangeModel, batch: Sequence[EvaluationTile], *, pixels: npt.NDArray[np.uint8]
) -> list[list[Answer]]:
    """Answer what all tiles are asked in one call, and what is asked of one of them in a call for that one."""
    every = [{_words(case.prompt): case.prompt for case in tile.cases} for tile in batch]
    shared = [prompt for words, prompt in every[0].items() if all(words in asked for asked in every[1:])]
    known: list[dict[tuple[PromptKind, str], Answer]] = [{} for _ in batch]
    if shared:
        for prompt, answers in zip(shared, model.answer_prompts(pixels, prompts=shared), strict=True):
            for of_tile, answer in zip(known, answers, strict=True):
                of_tile[_words(prompt)] = answer
    for index, asked in enumerate(every):
        rest = [prompt for words, prompt in asked.items() if words not in known[index]]
        if rest:
            of_rest = model.answer_prompts(pixels[index : index + 1], prompts=rest)
            known[index] |= {_words(prompt): answer for prompt, (answer,) in zip(rest, of_rest, strict=True)}
    return [[known[index][_words(case.prompt)] for case in tile.cases] for index, tile in enumerate(batch)]


def _words(prompt: Prompt) -> tuple[PromptKind, str]:
    return prompt.kind, prompt.text


def _predict_masks(
    model: ChangeModel, batch: Sequence[EvaluationTile], *, pixels: npt.NDArray[np.uint8]
) -> ChangeMasks | None:
    """Have the tiles masked whose truth is known; None where there is none, or the model gives no masks."""
    labelled = [index for index, tile in enumerate(batch) if tile.labelled is not None]
    # A model that only answers, as an installed package may bring, has no such attribute.
    labels = getattr(model, "mask_labels", ())
    if not labelled or not set(labels) & set(MASK_VALUES):
        return None
    return cast(MaskModel, model).predict_masks(pixels[labelled])


def _predict_swapped(
    model: ChangeModel, batch: Sequence[EvaluationTile], *, pixels: npt.NDArray[np.uint8]
) -> ChangeMasks:
    """Have the same tiles masked with their dates swapped: what came goes, so that both directions have a truth."""
    labelled = [index for index, tile in enumerate(batch) if tile.labelled is not None]
    return cast(MaskModel, model).predict_masks(np.ascontiguousarray(pixels[labelled][:, ::-1]))


def _count_masks(
    masks: ChangeMasks, batch: Sequence[EvaluationTile], *, answered: Sequence[Sequence[AnsweredCase]]
) -> dict[int, dict[str, PixelCounts | None]]:
    labelled = {index: tile.labelled for index, tile in enumerate(batch) if tile.labelled is not None}
    named = [_name_cells(answered[index]) for index in labelled]
    return dict(zip(labelled, count_pixels(masks, list(labelled.values()), named_cells=named), strict=True))


def _name_cells(answered: Sequence[AnsweredCase]) -> dict[str, Sequence[str]]:
    """Give the cells that a tile's answers name, by label of a mask; none where they cannot be parsed."""
    meaning = next((a.meaning for a in answered if a.case.prompt.kind is PromptKind.LOCATE), None)
    if not isinstance(meaning, ParsedLocate):
        return {}
    cells = {kind: read_cells(meaning, kind) or () for kind in KINDS}
    return {**cells, "change": tuple(name for named in cells.values() for name in named)}


def _describe_both_ways(
    model: ChangeModel, batch: Sequence[EvaluationTile], *, pixels: npt.NDArray[np.uint8], prompt: Prompt | None
) -> dict[int, SwapAnswers]:
    chosen = [index for index, tile in enumerate(batch) if tile.building_count]
    if prompt is None or not chosen:
        return {}
    (plain,) = model.answer_prompts(pixels[chosen], prompts=[prompt])
    (swapped,) = model.answer_prompts(np.ascontiguousarray(pixels[chosen][:, ::-1]), prompts=[prompt])
    return {
        index: SwapAnswers(plain=before, swapped=after)
        for index, before, after in zip(chosen, plain, swapped, strict=True)
    }
