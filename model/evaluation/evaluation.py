"""Asks a model about tiles and scores what it says: the whole of an evaluation but its files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np

from model.errors import InputError
from model.evaluation.asking import answer_tiles
from model.evaluation.calibration import fit_temperature, measure_calibration
from model.evaluation.captions import CaptionedText, Meteor, has_java, measure_captions
from model.evaluation.cases import AnsweredCase, AnsweredTile, EvaluationTile, Skipped, make_labelled_tile
from model.evaluation.certainty import measure_certainty
from model.evaluation.failures import FailureAlbum
from model.evaluation.lookup import look_up_descriptions
from model.evaluation.mask_scores import measure_masks
from model.evaluation.measures import BootstrapSettings, Figure, Measure, estimate_figures, mean
from model.evaluation.objects import measure_directions, measure_objects
from model.evaluation.outlines import FoundOutline, OutlineGatherer
from model.evaluation.scores import KINDS, measure_cells, measure_classify, measure_counts, measure_parseable
from model.evaluation.variety import measure_variety
from model.extras import require_extra
from model.interface import ChangeModel, NotingModel, Prompt, PromptKind
from model.pairs.folders import LabelledPair
from model.parsing import ParsedClassify
from model.questions.direction import Direction, read_direction

logger = logging.getLogger(__name__)

NO_METEOR = "METEOR is left out: it is a Java program, and there is no java on the path"
METEOR_FAILED = "METEOR is left out: its program ended without a figure; it wants 2 GB of memory"
NO_CONFIDENCE = "calibration is left out: the model gives no confidence with its answers"


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is measured beside the answers to the tiles' own questions, and how."""

    swap_prompt: Prompt | None = None
    """Asked with the dates swapped of tiles with changed buildings; left out, the swap test is."""
    has_meteor: bool = True
    """Whether METEOR is run where there is Java; it takes some seconds to start."""
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)
    album: FailureAlbum | None = None
    """Gets the tiles that are answered worst; left out, no pixels are kept."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model said and how good that is."""

    model_id: str
    figures: tuple[Figure, ...]
    """In the order of a table; those that nothing is known of have no value."""
    tiles: tuple[AnsweredTile, ...]
    outlines: tuple[FoundOutline, ...]
    """What the model's masks show, of kinds that the truth tells of."""
    temperature: float | None
    """What yes-probabilities should be cooled by to fit these tiles best; None without confidences."""
    notes: tuple[str, ...]
    """What people should know before they read the figures."""
    skipped: tuple[Skipped, ...]
    """Tiles that the model could not answer."""
    seconds: float
    """Wall time of reading and answering."""
    n_scenes: int
    """Scenes that the tiles are cut from: what the bootstrap draws again."""

    def get(self, name: str) -> Figure:
        """Give the figure of this name.

        Raises:
            KeyError: there is none.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def value(self, name: str) -> float:
        """Give the value of the figure of this name.

        Raises:
            KeyError: there is none, or nothing is known of it.
        """
        value = self.get(name).value
        if value is None:
            raise KeyError(f"{name} has no value: nothing is known of it")
        return value


def evaluate(
    model: ChangeModel,
    tiles: Iterable[LabelledPair],
    *,
    prompts: Sequence[Prompt],
    settings: EvaluationSettings | None = None,
) -> Evaluation:
    """Ask the prompts about every tile and score what the answers mean, and the masks of a model that gives some.

    Args:
        model: What answers.
        tiles: Pairs with their masks, and captions where they have some.
        prompts: What is asked, at most one of a kind.
        settings: What else is measured.

    Raises:
        InputError: no tiles, or the extra train is missing.
    """
    made = (make_labelled_tile(tile, prompts=prompts) for tile in tiles)
    return evaluate_tiles(model, made, settings=settings or EvaluationSettings())


def evaluate_tiles(
    model: ChangeModel,
    tiles: Iterable[EvaluationTile],
    *,
    settings: EvaluationSettings,
) -> Evaluation:
    """Ask all that is to be asked about every tile and score it.

    Args:
        model: What answers.
        tiles: Read one by one; no more than a batch of them is held.
        settings: What else is measured.

    Raises:
        InputError: no tiles, a model that cannot answer any tile of a whole batch, or the extra train is missing.
    """
    require_extra("train", use="an evaluation")
    start = time.perf_counter()
    skipped: list[Skipped] = []
    album = settings.album
    shown = tiles if album is None else album.watch(tiles)
    answered, gatherer = [], OutlineGatherer()
    for tile, masked in answer_tiles(model, shown, swap_prompt=settings.swap_prompt, skipped=skipped):
        answered.append(tile)
        gatherer.add(masked)
        if album is not None:
            album.consider(tile)
    if not answered:
        raise InputError(
            "no tile to ask about",
            expected="pairs of images with a mask, captions or answers",
            remedy="look at the reasons that were given for the pairs left out",
        )
    seconds = time.perf_counter() - start
    notes = _take_notes(model)
    with _start_meteor(answered, settings=settings, notes=notes) as meteor:
        measures = list_measures(answered, notes=notes, meteor=meteor)
    notes += [METEOR_FAILED] if meteor is not None and meteor.has_failed else []
    outlines = gatherer.finish()
    for kind in KINDS:
        measures += measure_objects(gatherer.objects, kind=kind)
        measures += measure_directions(gatherer.directions, kind=kind)
    measures += measure_certainty(answered, outlines=outlines, certainty=model.identity.certainty)
    measures += _measure_swaps(answered) if settings.swap_prompt is not None else []
    return Evaluation(
        model_id=model.identity.model_id,
        figures=tuple(estimate_figures(measures, settings=settings.bootstrap)),
        tiles=tuple(answered),
        outlines=outlines,
        temperature=_fit_temperature(select_cases(answered, PromptKind.CLASSIFY)),
        notes=tuple(notes),
        skipped=tuple(skipped),
        seconds=seconds,
        n_scenes=len({tile.scene for tile in answered}),
    )


LOOKUP = "describe.lookup"
LOOKUP_FIGURES = (".bleu4", ".cider")
"""What is told of a table of sentences in the model's place."""


def _take_notes(model: ChangeModel) -> list[str]:
    if not isinstance(model, NotingModel):
        return []
    return [f"{note}: {count} times" for note, count in model.take_notes().items()]


def list_measures(tiles: Sequence[AnsweredTile], *, notes: list[str], meteor: Meteor | None) -> list[Measure]:
    """List what can be measured of answers, in the order of a table.

    Args:
        tiles: What was answered.
        notes: Gets what people should know.
        meteor: Runs METEOR, where it can.
    """
    measures: list[Measure] = []
    for in_dialogue, prefix in ((False, ""), (True, "dialogue.")):
        cases = {kind: select_cases(tiles, kind, in_dialogue=in_dialogue) for kind in PromptKind}
        if in_dialogue and not any(cases.values()):
            continue
        measures += measure_classify(cases[PromptKind.CLASSIFY], prefix=f"{prefix}classify")
        measures += [] if in_dialogue else _measure_confidence(cases[PromptKind.CLASSIFY], notes=notes)
        measures += measure_counts(cases[PromptKind.COUNT], prefix=f"{prefix}count")
        measures += measure_cells(cases[PromptKind.LOCATE], prefix=f"{prefix}locate")
        asked = [c for kind in (PromptKind.CLASSIFY, PromptKind.COUNT, PromptKind.LOCATE) for c in cases[kind]]
        measures += measure_parseable(asked, prefix=prefix.rstrip(".") or "answers")
        for kind in (PromptKind.DESCRIBE, PromptKind.ASK, PromptKind.DIALOGUE):
            if cases[kind] or (kind is PromptKind.DESCRIBE and not in_dialogue):
                name = prefix.rstrip(".") if kind is PromptKind.DIALOGUE else f"{prefix}{kind.value}"
                measures += _measure_words(cases[kind], prefix=name, meteor=meteor)
        if not in_dialogue and (looked_up := look_up_descriptions(tiles)):
            words = _measure_words(looked_up, prefix=LOOKUP, meteor=None)
            measures += [replace(m, baseline=None) for m in words if m.name.endswith(LOOKUP_FIGURES)]
    return [*measures, *_measure_truths_apart(tiles), *_measure_pixels(tiles)]


def select_cases(tiles: Sequence[AnsweredTile], kind: PromptKind, *, in_dialogue: bool = False) -> list[AnsweredCase]:
    """Select the answers of a kind."""
    return [
        answered
        for tile in tiles
        for answered in tile.answered
        if answered.case.prompt.kind is kind and answered.case.is_in_dialogue == in_dialogue
    ]


def read_confidences(answered: Sequence[AnsweredCase]) -> tuple[list[AnsweredCase], list[float], list[bool]]:
    """Give the yes-or-no answers that have a meaning and a confidence, these confidences, and which are right."""
    known = [a for a in answered if isinstance(a.meaning, ParsedClassify) and 0 <= a.answer.confidence <= 1]
    return known, [a.answer.confidence for a in known], [a.meaning == a.case.truth for a in known]


def _measure_confidence(answered: Sequence[AnsweredCase], *, notes: list[str]) -> list[Measure]:
    known, confidence, is_right = read_confidences(answered)
    if answered and not known:
        notes.append(NO_CONFIDENCE)
    return measure_calibration(confidence, is_right, prefix="classify", scenes=[a.scene for a in known])


def list_yes_probabilities(answered: Sequence[AnsweredCase]) -> tuple[list[float], list[bool]]:
    """Give how probable a yes was to each answer that has a confidence, and whether yes was right."""
    known, confidence, is_right = read_confidences(answered)
    says_yes = [a.says_changed for a in known]
    probability = [c if says else 1 - c for c, says in zip(confidence, says_yes, strict=True)]
    return probability, [says == right for says, right in zip(says_yes, is_right, strict=True)]


def _fit_temperature(answered: Sequence[AnsweredCase]) -> float | None:
    probability, is_yes = list_yes_probabilities(answered)
    return fit_temperature(probability, is_yes) if probability else None


def _measure_words(answered: Sequence[AnsweredCase], *, prefix: str, meteor: Meteor | None) -> list[Measure]:
    texts = [
        (CaptionedText(scene=a.scene, text=a.answer.text, references=a.case.references), a.case.is_changed)
        for a in answered
    ]
    changed = [text for text, is_changed in texts if is_changed]
    return [
        *measure_captions([text for text, _ in texts], prefix=prefix, meteor=meteor),
        *measure_captions(changed, prefix=f"{prefix}.changed_only", meteor=meteor),
        # What several people agree on is known of descriptions alone.
        *(measure_variety(changed, prefix=f"{prefix}.changed_only") if prefix == "describe" else ()),
    ]


def _measure_truths_apart(tiles: Sequence[AnsweredTile]) -> list[Measure]:
    """Where people and masks both tell what changed, score yes and no by each: they speak of different things."""
    truths: Mapping[str, Callable[[AnsweredTile], bool | None]] = {
        "by_flag": lambda tile: tile.flag,
        "by_mask": lambda tile: tile.facts.is_changed if tile.facts is not None else None,
    }
    by_truth = {
        name: [
            replace(answered, case=replace(answered.case, truth=ParsedClassify(is_changed=is_changed)))
            for tile in tiles
            if (is_changed := tell(tile)) is not None
            for answered in select_cases([tile], PromptKind.CLASSIFY)
        ]
        for name, tell in truths.items()
    }
    if not all(by_truth.values()):
        return []
    return [
        measure
        for name, answered in by_truth.items()
        for measure in measure_classify(answered, prefix=f"classify.{name}")
    ]


def _measure_pixels(tiles: Sequence[AnsweredTile]) -> list[Measure]:
    labels = dict.fromkeys(label for tile in tiles for label in tile.pixel_counts)
    measures = []
    for label in labels:
        known = [(count, tile.scene) for tile in tiles if (count := tile.pixel_counts.get(label)) is not None]
        measures += measure_masks(label, [count for count, _ in known], scenes=[scene for _, scene in known])
    return measures


def _measure_swaps(tiles: Sequence[AnsweredTile]) -> list[Measure]:
    """Give how often a description says that buildings went, with the dates swapped and as they are."""
    known = [(tile.scene, tile.swap) for tile in tiles if tile.swap is not None]
    scenes = tuple(scene for scene, _ in known)
    said = {
        "": [read_direction(swap.swapped.text) for _, swap in known],
        "unswapped_": [read_direction(swap.plain.text) for _, swap in known],
    }
    return [
        Measure(
            name=f"swap.{which}{direction.value}_fraction",
            parts=np.array([[one is direction, 1] for one in directions], float).reshape(-1, 2),
            scenes=scenes,
            combine=mean(0, 1),
        )
        for which, directions in said.items()
        for direction in (Direction.REMOVED, Direction.BUILT)
    ]


def _start_meteor(
    tiles: Sequence[AnsweredTile], *, settings: EvaluationSettings, notes: list[str]
) -> AbstractContextManager[Meteor | None]:
    if not settings.has_meteor or not any(a.case.references for tile in tiles for a in tile.answered):
        return nullcontext()
    if not has_java():
        notes.append(NO_METEOR)
        return nullcontext()
    return Meteor()
