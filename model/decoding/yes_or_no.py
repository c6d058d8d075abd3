"""Yes or no: which tokens begin the two words, and how sure the model is of the one that it chose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from model.decoding.steps import FoundTokens, SearchSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class YesOrNo:
    """The first tokens of the two answers to a `classify` prompt."""

    yes_ids: Tensor
    """Tokens that begin a yes, int64, ascending."""
    no_ids: Tensor
    """Tokens that begin a no."""

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> Self:
        """Find the tokens in a vocabulary."""
        yes, no = (
            {tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words}
            for words in (("Yes", "yes", " Yes"), ("No", "no", " No"))
        )
        # A vocabulary may begin both words with one token, such as a space: it decides nothing.
        return cls(
            yes_ids=torch.tensor(sorted(yes - no), dtype=torch.int64),
            no_ids=torch.tensor(sorted(no - yes), dtype=torch.int64),
        )

    def lean(self, settings: SearchSettings) -> SearchSettings:
        """Give the settings with which the model leans towards yes as far as they say."""
        biases = tuple((token, settings.yes_bias) for token in self.yes_ids.tolist() if settings.yes_bias)
        return replace(settings, token_biases=biases)

    def tell_confidence(self, found: FoundTokens, *, settings: SearchSettings) -> Tensor:
        """Renormalise the first token over yes and no, and calibrate; an answer that is neither keeps its mean."""
        yes = found.first_probabilities[:, self.yes_ids].sum(dim=1)
        no = found.first_probabilities[:, self.no_ids].sum(dim=1)
        first = found.token_ids[:, :1]
        is_yes = torch.isin(first, self.yes_ids).squeeze(1)
        is_no = torch.isin(first, self.no_ids).squeeze(1)
        chosen = torch.where(is_yes, yes, no)
        calibrated = settings.calibrate(chosen / (yes + no).clamp(min=1e-12))
        return torch.where(is_yes | is_no, calibrated, found.confidence)
