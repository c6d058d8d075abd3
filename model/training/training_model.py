"""What learns: a DeltaVLM of which some parts stay as they are, between auxiliary heads, with one loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import PreTrainedModel

from model.configuration import ConvVisionConfig
from model.errors import InputError
from model.interface import CELL_NAMES
from model.modeling import DeltaVlmForConditionalGeneration, DeltaVlmOutput
from model.pairs.details import load_details
from model.processing import IGNORED_LABEL
from model.training.averaging import WeightAverage
from model.training.collation import KINDS
from model.training.fused_tower import FusedTower
from model.training.heads import DetailHead, DifferenceHead, QueryHead, detail_loss, fact_loss
from model.vision import TRUNK_STRIDE_PX

N_ROW_GROUPS = 6
"""Parts that the rows of a batch are computed in, the short ones apart from the long ones: of rows padded to the
longest of the batch, seven tenths were padding."""


def choose_trained(names: Sequence[str], *, trained: Sequence[str], frozen: Sequence[str] = ()) -> set[str]:
    """Choose the parameters that learn.

    Args:
        names: Of all parameters.
        trained: Patterns as in file names, of which one must fit.
        frozen: Parts whose parameters do not learn whatever fits.

    Raises:
        InputError: a pattern or a part fits no parameter, or none is left.
    """
    for pattern in trained:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(
                f"trained_parts: {pattern!r} fits no parameter",
                expected=f"patterns of names such as {names[0]}",
                remedy="correct it (`deltavlm model info` lists the parts)",
            )
    for part in frozen:
        if not any(_is_within(name, part) for name in names):
            raise InputError(
                f"frozen_parts: the model has no part {part!r}",
                expected=f"one of {', '.join(dict.fromkeys(name.split('.')[0] for name in names))}",
                remedy="correct it",
            )
    chosen = {
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in trained) and not any(_is_within(name, p) for p in frozen)
    }
    if not chosen:
        raise InputError(
            "no parameter is left to learn",
            expected="trained_parts that frozen_parts do not cover",
            remedy="correct one of them",
        )
    return chosen


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def find_frozen_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Find the largest modules that have parameters of which none learns."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from find_frozen_modules(child)


class PartlyTrained(nn.Module):
    """A module of which some parameters learn.

    What does not learn keeps its statistics and drops nothing in training, and does not go into checkpoints: those
    hold what training changes, and the rest is where it came from.
    """

    _keys_to_ignore_on_save: Sequence[str] | None = None
    """transformers' Trainer asks for it when weights are loaded."""

    _frozen: list[nn.Module] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.average: WeightAverage | None = None
        """Of what training changes, where `start_average` was called."""

    @property
    def frozen_modules(self) -> list[nn.Module]:
        """Modules that have parameters of which none learns; found once, as a training asks at every step."""
        if self._frozen is None:
            self._frozen = list(find_frozen_modules(self))
        return self._frozen

    def start_average(self, decay: float) -> None:
        """Keep a moving average from here on; 0 keeps none."""
        if decay:
            self.average = WeightAverage(self.state_dict(), decay=decay)

    def update_average(self) -> None:
        """Take the weights of a step into the average, where there is one."""
        if self.average is not None:
            self.average.update(self.state_dict())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the average, where there is one, stand in for the weights until the end of the block."""
        if self.average is None:
            yield
        else:
            with self.average.put_in_place(self.state_dict()):
                yield

    def train(self, mode: bool = True) -> Self:
        """Switch to training; modules that do not learn stay as they answer."""
        super().train(mode)
        if mode:
            for module in self.frozen_modules:
                module.eval()
            for module in self.modules():
                # transformers computes activations again only for layers in training; what is in them stays in eval.
                if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
                    module.training = True
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Give what training changes: parameters that learn, and the statistics beside them."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        changing = set(self._list_changing(state))
        return {name: value for name, value in state.items() if name in changing}

    def load_state_dict(self, state_dict: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        """Load what `state_dict` gave; the rest stays, and is not reported as missing.

        Raises:
            InputError: the state is that of a model in which other parts learn.
        """
        changing = set(self._list_changing(super().state_dict()))
        if changing != set(state_dict):
            wrong = sorted(changing ^ set(state_dict))
            raise InputError(
                f"{len(wrong)} parameters of the checkpoint are others than those that learn, such as {wrong[0]}",
                expected="a checkpoint of the same training",
                remedy="start over, or choose another output",
            )
        super().load_state_dict(state_dict, strict=False)
        return _IncompatibleKeys([], [])

    def _list_changing(self, names: Iterable[str]) -> Iterator[str]:
        parameters = dict(self.named_parameters(remove_duplicate=False))
        learning = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        frozen = {id(part) for module in self.frozen_modules for part in module.modules()}
        for name in names:
            is_frozen_buffer = name not in parameters and id(self.get_submodule(name.rpartition(".")[0])) in frozen
            if name in learning or (name not in parameters and not is_frozen_buffer):
                yield name


class ReadRows(NamedTuple):
    """What a model made of some rows of a batch."""

    loss: Tensor
    """Mean cross-entropy over the target tokens, or over the answers."""
    logits: Tensor
    """Of the positions that were asked for, shape (n, positions, vocabulary)."""
    queries: Tensor
    """What the Q-Former's queries hold, shape (n, queries, Q-Former width)."""
    n_targets: int
    """Target tokens, or answers."""


class TrainingModel(PartlyTrained):
    """A DeltaVLM between auxiliary heads; one loss."""

    def __init__(
        self,
        model: DeltaVlmForConditionalGeneration,
        *,
        text_loss_weight: float,
        auxiliary_loss_weight: float = 1.0,
        trained_parts: Sequence[str] = ("*",),
        frozen_parts: Sequence[str] = (),
        answers_weigh_alike: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.answers_weigh_alike = answers_weigh_alike
        self.text_loss_weight = text_loss_weight
        self.auxiliary_loss_weight = auxiliary_loss_weight
        # The mask branch has a training of its own, and no text passes through it.
        names = [name for name, _ in model.named_parameters() if not _is_within(name, "mask_decoder")]
        learned = choose_trained(names, trained=trained_parts, frozen=frozen_parts)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in learned)
        does_tower_learn = any(parameter.requires_grad for parameter in model.vision_model.parameters())
        self.tower = None if does_tower_learn else FusedTower(model.vision_model)
        self.difference_head: DifferenceHead | None = None
        self.query_head: QueryHead | None = None
        self.detail_head: DetailHead | None = None
        if auxiliary_loss_weight:
            self.difference_head, self.query_head = build_heads(model)
            self.detail_head = DetailHead(width=model.config.qformer_config.hidden_size, n_details=len(load_details()))

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Compute the activations of the parts that can do so again in the backward pass, instead of keeping them."""
        for part in self.model.children():
            if isinstance(part, PreTrainedModel) and part.supports_gradient_checkpointing:
                part.activation_checkpointing_enable(**options)

    def forward(
        self,
        fact_targets: Tensor,
        fact_known: Tensor,
        pair_index: Tensor,
        answer_kinds: Tensor | None = None,
        detail_targets: Tensor | None = None,
        detail_known: Tensor | None = None,
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        """Give the loss and its parts; outside of training also the figures of `measure_answers`."""
        with nullcontext() if self.tower is None else self.tower.stand_in(self.model):
            features = self.model.encode_pairs(inputs["pixel_values"])
        groups = group_rows(inputs["attention_mask"]) if self.training else [torch.arange(len(pair_index))]
        read = [self._read(rows, pair_index=pair_index, features=features, inputs=inputs) for rows in groups]
        order = torch.cat(groups).to(pair_index.device)
        asked, queries = pair_index[order], torch.cat([part.queries for part in read])
        losses: dict[str, Tensor] = {"text": average_losses(read)}
        loss = self.text_loss_weight * losses["text"]
        if self.difference_head is not None and self.query_head is not None:
            losses["difference"] = fact_loss(self.difference_head(features).float(), fact_targets, fact_known)
            gathered = self.query_head(queries).float()
            losses["query"] = fact_loss(gathered, fact_targets[asked], fact_known[asked])
            loss = loss + self.auxiliary_loss_weight * (losses["difference"] + losses["query"])
        if self.detail_head is not None and detail_targets is not None and detail_known is not None:
            named = self.detail_head(queries).float()
            losses["detail"] = detail_loss(named, detail_targets[asked], detail_known[asked])
            loss = loss + self.auxiliary_loss_weight * losses["detail"]
        if not self.training and answer_kinds is not None:
            logits = read[0].logits[:, -inputs["labels"].shape[1] :]
            losses["figures"] = measure_answers(
                logits, inputs["labels"], kinds=answer_kinds, pair_index=pair_index, n_pairs=len(fact_targets)
            )
        return {"loss": loss, **losses}

    def _read(self, rows: Tensor, *, pair_index: Tensor, features: Tensor, inputs: Mapping[str, Tensor]) -> ReadRows:
        """Let the model read some rows of a batch, as long as the longest of them."""
        n_text = longest(inputs["attention_mask"][rows])
        n_asked = longest(inputs["qformer_attention_mask"][rows])
        labels = inputs["labels"][rows, :n_text]
        is_labelled = (labels != IGNORED_LABEL).any(dim=0)
        # A label is predicted one position before its own; outside of training figures need all positions.
        first = int(is_labelled.int().argmax()) - 1
        output: DeltaVlmOutput = self.model(
            difference_features=features,
            pair_index=pair_index[rows],
            input_ids=inputs["input_ids"][rows, :n_text],
            attention_mask=inputs["attention_mask"][rows, :n_text],
            labels=None if self.answers_weigh_alike else labels,
            qformer_input_ids=inputs["qformer_input_ids"][rows, :n_asked],
            qformer_attention_mask=inputs["qformer_attention_mask"][rows, :n_asked],
            logits_to_keep=n_text - first if self.training else 0,
            use_cache=False,
        )
        logits = cast(Tensor, output.logits)
        if self.answers_weigh_alike:
            losses = answer_losses(logits[:, first - n_text : -1], labels[:, first + 1 :])
            loss, n_targets = losses.mean(), len(losses)
        else:
            loss, n_targets = cast(Tensor, output.loss), int((labels[:, 1:] != IGNORED_LABEL).sum())
        return ReadRows(loss=loss, logits=logits, queries=cast(Tensor, output.query_output), n_targets=n_targets)


def group_rows(attention_mask: Tensor) -> list[Tensor]:
    """Group the rows of a batch by their length: int64 numbers of rows, each in one group."""
    return list(attention_mask.sum(dim=1).argsort(stable=True).chunk(N_ROW_GROUPS))


def longest(attention_mask: Tensor) -> int:
    """Give the length of the longest of rows that are padded on the right."""
    return int(attention_mask.sum(dim=1).max())


def answer_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Give the mean cross-entropy of each answer over its tokens, however many they are.

    Args:
        logits: Of each position, shape (n, positions, vocabulary).
        targets: Token that follows it, -100 where none; shape (n, positions).

    Returns:
        Shape (answers,): of the rows that have a target.
    """
    n_tokens = (targets != IGNORED_LABEL).sum(dim=1)
    losses = F.cross_entropy(
        logits.float().transpose(1, 2), targets, ignore_index=IGNORED_LABEL, reduction="none"
    )  # n, positions
    return losses.sum(dim=1)[n_tokens > 0] / n_tokens[n_tokens > 0]


def average_losses(read: Sequence[ReadRows]) -> Tensor:
    """Average the losses of groups of rows, each target as much as any other; 0 where there is none."""
    # Of a group without targets the mean is no number.
    sums = [part.loss * part.n_targets if part.n_targets else part.queries.sum() * 0 for part in read]
    return torch.stack(sums).sum() / max(sum(part.n_targets for part in read), 1)


def build_heads(model: DeltaVlmForConditionalGeneration) -> tuple[DifferenceHead, QueryHead]:
    """Make the auxiliary heads for a model of the small kind.

    Raises:
        InputError: its tokens lie otherwise, or it has too few queries.
    """
    vision = model.config.vision_config
    if not isinstance(vision, ConvVisionConfig) or model.config.num_query_tokens < len(CELL_NAMES):
        raise InputError(
            f"auxiliary heads for a vision tower of kind {vision.model_type} and {model.config.num_query_tokens} "
            "queries",
            expected=f"{ConvVisionConfig.model_type} and at least {len(CELL_NAMES)}",
            remedy="set auxiliary_loss_weight to 0",
        )
    tokens_per_side = vision.image_size // TRUNK_STRIDE_PX
    return (
        DifferenceHead(width=vision.hidden_size, tokens_per_side=tokens_per_side),
        QueryHead(width=model.config.qformer_config.hidden_size),
    )


@torch.no_grad()
def measure_answers(logits: Tensor, labels: Tensor, *, kinds: Tensor, pair_index: Tensor, n_pairs: int) -> Tensor:
    """Count what of the answers would have been said, given their beginnings.

    Args:
        logits: Of the text, shape (n, text, vocabulary).
        labels: Target token per position, -100 where none; shape (n, text).
        kinds: Number of each row's kind of prompt in `KINDS`, shape (n,).
        pair_index: Which pair each row asks about, shape (n,).
        n_pairs: How many there are.

    Returns:
        Per pair the summed loss of its tokens, how many there are and how many of them are right; then for each kind
        the number of answers and of those that are right to the last token: float32 of shape (n_pairs, 3 + 2 * kinds).
    """
    targets, predicted = labels[:, 1:], logits[:, :-1]
    is_known = targets != IGNORED_LABEL
    losses = F.cross_entropy(
        predicted.float().transpose(1, 2), targets, ignore_index=IGNORED_LABEL, reduction="none"
    )  # n, text - 1
    is_right = (predicted.argmax(dim=-1) == targets) | ~is_known
    asked = F.one_hot(kinds, len(KINDS))
    exact = asked * is_right.all(dim=1)[:, None]
    sums = torch.stack([losses.sum(dim=1), is_known.sum(dim=1), (is_right & is_known).sum(dim=1)], dim=1)
    rows = torch.cat([sums, asked, exact], dim=1).float()
    return rows.new_zeros(n_pairs, rows.shape[1]).index_add_(0, pair_index, rows)


def summarise_answers(figures: Any) -> dict[str, float]:
    """Turn the figures of many pairs, shape (n, 3 + 2 * kinds), into shares of tokens and answers, by kind too."""
    loss, n_tokens, n_right, *counts = (float(total) for total in figures.sum(axis=0))
    asked, exact = counts[: len(KINDS)], counts[len(KINDS) :]
    by_kind = {f"exact_{kind.value}": right / n for kind, n, right in zip(KINDS, asked, exact, strict=True) if n}
    return {
        "text_loss": loss / max(n_tokens, 1),
        "token_accuracy": n_right / max(n_tokens, 1),
        "exact_fraction": sum(exact) / max(sum(asked), 1),
        **by_kind,
    }
