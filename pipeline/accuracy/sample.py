"""A stratified random sample of tiles: changed and unchanged ones apart, each by how sure the model is.

Tiles are drawn without replacement within each stratum. Half of the sample is spread evenly, so that rare strata have
their share (Olofsson et al. 2014, section 5.1), the other half by the number of tiles; a larger sample with the same
seed holds the smaller one, so that one can be enlarged and nothing that was reviewed is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from model.errors import InputError
from model.sealing import seal, unseal
from pipeline.accuracy.population import Population

FORMAT_VERSION = 1
"""Raised when a field of a sample changes its meaning or goes away."""
SURE_CONFIDENCE = 0.9
"""A verdict that the model gives at least this confidence is a sure one."""
STRATA = ("changed_sure", "changed_unsure", "unchanged_sure", "unchanged_unsure")
FEWEST_PER_STRATUM = 2
"""Tiles of a stratum that say something of the others: a variance needs two."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Tiles that a part of the sample is drawn from."""

    name: str
    """One of `STRATA`."""
    n_tiles: int
    """Tiles in it."""
    ground_m2: float
    """Ground of these."""
    n_sampled: int
    """Tiles that were drawn."""

    @property
    def inclusion_probability(self) -> float:
        """How likely one of its tiles was to be drawn."""
        return self.n_sampled / self.n_tiles


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The tiles that are to be looked at, and how they were drawn."""

    sample_id: str
    """Name of the sample, by all that it depends on."""
    run_id: str
    """Run whose tiles they are."""
    model_id: str
    """Model that answered."""
    seed: int
    """What the tiles were drawn with."""
    sure_confidence: float
    """Confidence that parts the strata."""
    strata: tuple[Stratum, ...]
    """Those that have tiles, in the order of `STRATA`."""
    tiles: Mapping[str, str]
    """Stratum by tile_id, in an order that tells nothing of it."""

    def to_json(self) -> bytes:
        """Give the file's content, with the probability of each tile to be drawn."""
        chances = {stratum.name: stratum.inclusion_probability for stratum in self.strata}
        values = {"format_version": FORMAT_VERSION, **asdict(self), "inclusion_probabilities": chances}
        return json.dumps(seal(values), indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, source: str) -> Self:
        """Read a sample.

        Raises:
            InputError: this is none, or one of another version.
        """
        try:
            values = unseal(data)
            if values.pop("format_version") != FORMAT_VERSION or values.pop("inclusion_probabilities") is None:
                raise ValueError("another format_version")
            strata = tuple(Stratum(**stratum) for stratum in values["strata"])
            sample = cls(**{**values, "strata": strata, "tiles": dict(values["tiles"])})
            drawn = [sum(name == stratum.name for name in sample.tiles.values()) for stratum in strata]
            if drawn != [stratum.n_sampled for stratum in strata] or sum(drawn) != len(sample.tiles):
                raise ValueError("its tiles are not those of its strata")
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise InputError(
                f"{source} cannot be read ({problem})",
                expected=f"a sample of format_version {FORMAT_VERSION}",
                remedy="put it back from a copy, or draw it again with the same --n and --seed",
            ) from None
        return sample


def draw_sample(population: Population, *, n: int, seed: int, run_id: str, model_id: str) -> Sample:
    """Draw a sample.

    Args:
        population: The tiles there are.
        n: How many are wanted.
        seed: Any number: the same one draws the same tiles.
        run_id: Run whose tiles they are.
        model_id: Model that answered.

    Raises:
        InputError: there are fewer tiles, or too few are wanted for the strata.
    """
    labels = label_strata(population)
    sizes = [int((labels == name).sum()) for name in STRATA]
    _check_size(n, sizes=sizes)
    grounds = population.tiles["ground_m2"].to_numpy(dtype=np.float64)
    ids = population.tiles.index.to_numpy(dtype=object)
    drawn: dict[str, str] = {}
    strata = []
    for number, (name, size, wanted) in enumerate(zip(STRATA, sizes, allocate(sizes, n=n), strict=True)):
        # A stratum of its own has numbers of its own, so that a larger sample begins with the same tiles.
        order = np.random.default_rng([seed, number]).permutation(size)[:wanted]
        drawn |= dict.fromkeys(ids[labels == name][order].tolist(), name)
        if size:
            ground = float(grounds[labels == name].sum())
            strata.append(Stratum(name=name, n_tiles=size, ground_m2=ground, n_sampled=wanted))
    shuffled = sorted(drawn, key=lambda tile: hashlib.sha256(f"{seed} {tile}".encode()).digest())
    key = json.dumps([run_id, seed, SURE_CONFIDENCE, sorted(drawn)]).encode()
    return Sample(
        sample_id=hashlib.sha256(key).hexdigest()[:12],
        run_id=run_id,
        model_id=model_id,
        seed=seed,
        sure_confidence=SURE_CONFIDENCE,
        strata=tuple(strata),
        tiles={tile: drawn[tile] for tile in shuffled},
    )


def _check_size(n: int, *, sizes: Sequence[int]) -> None:
    n_tiles, fewest = sum(sizes), sum(min(size, FEWEST_PER_STRATUM) for size in sizes)
    if n_tiles == 0:
        raise InputError(
            "the run has no tile that was called changed or unchanged",
            expected="tiles whose answers could be read",
            remedy="see in its report why nothing was looked at",
        )
    if not fewest <= n <= n_tiles:
        raise InputError(
            f"a sample of {n:,} tiles of {n_tiles:,}",
            expected=f"{fewest:,} to {n_tiles:,}: {FEWEST_PER_STRATUM} of each stratum, and no more than there are",
            remedy="correct --n",
        )


def label_strata(population: Population) -> npt.NDArray[np.object_]:
    """Give the stratum of every tile."""
    is_changed = population.tiles["is_changed"].to_numpy(dtype=np.bool_)
    is_sure = population.tiles["confidence"].to_numpy(dtype=np.float64) >= SURE_CONFIDENCE
    labels: npt.NDArray[np.object_] = np.array(STRATA, dtype=object)[2 * ~is_changed + ~is_sure]
    return labels


def allocate(sizes: Sequence[int], *, n: int) -> list[int]:
    """Share a sample out over strata: a larger one gives no stratum less.

    Args:
        sizes: Tiles per stratum; some may have none.
        n: At least two of each stratum that has two, and no more than there are.
    """
    n_there, n_tiles = sum(size > 0 for size in sizes), sum(sizes)
    wanted = [0.5 / n_there + 0.5 * size / n_tiles if size else 0.0 for size in sizes]
    given = [min(size, FEWEST_PER_STRATUM) for size in sizes]
    # One at a time to whoever lacks most (Sainte-Lague), as rounded shares need not grow with the whole.
    for _ in range(n - sum(given)):
        lacking = [place for place, size in enumerate(sizes) if given[place] < size]
        given[max(lacking, key=lambda place: wanted[place] / (2 * given[place] + 1))] += 1
    return given
