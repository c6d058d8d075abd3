"""Any vision-language model behind an OpenAI-compatible server as a `ChangeModel`: both dates in one message.

General models are told in ``configs/remote-prompts.yaml`` which forms of answers are read here. Requests are made pair
by pair, all prompts of a pair in a row, so that a server which keeps what it has read of a message reads each image
once.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import resources
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from model.extras import require_extra
from model.interface import Answer, ModelIdentity, PairContext, Prompt, PromptKind
from model.remote.endpoint import ChatRequest, Endpoint, EndpointAddress, StructuredRequest
from model.remote.forms import make_response_format, to_sentence
from model.remote.replies import ChatReply, EndpointError, ReplyToken, mean_probability

N_ALTERNATIVES = 5
"""Most probable tokens asked for at each place: yes and no are among them, and no known server gives fewer."""
MAX_ANSWERS_KEPT = 8192
"""Answers that a model remembers. When one tile of a batch fails, the others are asked for again in halves, and
a question that was answered should not be paid for twice."""
WARM_UP_SIDE_PX = 64


@dataclass(frozen=True, kw_only=True)
class AnswerForm:
    """What a general model is told about answers to one kind of prompt."""

    max_tokens: int
    """Longest answer."""
    form: str
    """Words that follow the question."""
    json_form: str = ""
    """The same where the server holds the model to a schema; empty: it does not for this kind."""


@dataclass(frozen=True, kw_only=True)
class MessageBook:
    """The words around a question, from ``configs/remote-prompts.yaml``."""

    before_label: str
    """Stands in front of the image of the earlier date."""
    after_label: str
    """Stands in front of the image of the later date."""
    place_line: str
    """Sentence on where the ground is and how large, with the names of `PairContext` in braces."""
    dates_line: str
    """Likewise one on both dates."""
    forms: Mapping[PromptKind, AnswerForm]
    """One form per kind of prompt."""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


@cache
def load_message_book() -> MessageBook:
    """Read ``configs/remote-prompts.yaml``."""
    tree = yaml.safe_load(resources.files("configs").joinpath("remote-prompts.yaml").read_text(encoding="utf-8"))
    return MessageBook(
        before_label=tree["before_label"],
        after_label=tree["after_label"],
        place_line=tree["place_line"],
        dates_line=tree["dates_line"],
        forms={kind: AnswerForm(**tree["kinds"][kind.value]) for kind in PromptKind},
    )


@dataclass(frozen=True, kw_only=True)
class RemoteModelSource:
    """The `ModelSource` of ``openai:URL#NAME``."""

    address: EndpointAddress
    """Which model, and where."""

    @classmethod
    def from_name(cls, name: str) -> Self:
        """Read the name.

        Raises:
        InputError: as `EndpointAddress.parse`; the extra openai is missing.
        """
        address = EndpointAddress.parse(name)
        require_extra("openai", use=f"model {name!r}")
        return cls(address=address)

    def identify(self) -> ModelIdentity:
        """Tell the model apart from others, without any network.

        Nobody can hash weights that stay on a server: `weight_hash` is made from the URL, the name and the words of
        `MessageBook`. What a server puts behind one name may change, and this does not tell.
        """
        content = [self.address.base_url, self.address.model, load_message_book().to_dict()]
        weight_hash = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return ModelIdentity(
            model_id=f"{self.address.model}@{self.address.host}", weight_hash=weight_hash, path=self.address.base_url
        )

    def load(self, *, device: str, dtype: str, batch_size_tiles: int) -> RemoteModel:
        """Make ready to ask, and ask once, so that a wrong name or key shows before the first tile.

        Args:
            device: Of no matter: the server chooses.
            dtype: Likewise.
            batch_size_tiles: Likewise; ``DELTAVLM_ENDPOINT_CONCURRENCY`` says how many requests are under way at once.

        Raises:
            InputError: a setting in the environment cannot be used.
            EndpointError: the server cannot be reached or refuses to answer.
        """
        del device, dtype, batch_size_tiles
        model = RemoteModel(Endpoint(self.address), identity=self.identify())
        model.warm_up()
        return model


class RemoteModel:
    """A `ChangeModel` that asks a server."""

    def __init__(self, endpoint: Endpoint, *, identity: ModelIdentity) -> None:
        self.endpoint = endpoint
        self.identity = identity
        self._answered: dict[str, Answer] = {}
        self._notes: Counter[str] = Counter()

    def warm_up(self) -> None:
        """Ask once about nothing; a server may load its model only now.

        Raises:
            EndpointError: the server cannot be reached or refuses to answer.
        """
        blank = np.zeros((2, 3, WARM_UP_SIDE_PX, WARM_UP_SIDE_PX), np.uint8)
        prompt = Prompt(name="warm_up", kind=PromptKind.CLASSIFY, text="Have these two images changed?")
        self.endpoint.ask(make_request(encode_pair(blank), prompt=prompt))

    def take_notes(self) -> dict[str, int]:
        """Say what happened since the last call that people should know of, and how often."""
        notes, self._notes = dict(self._notes), Counter()
        return notes

    def answer_prompts(self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt]) -> list[list[Answer]]:
        """Answer every prompt for every pair, as `ChangeModel.answer_prompts` says.

        The confidence is NaN where the server tells no probabilities. A model that says nothing gives an empty answer.

        Raises:
            ValueError: the pairs are not uint8 of shape (n, date=2, band=3, y, x).
            EndpointError: a request has no usable reply; the answers that came are remembered.
        """
        return self._answer(pairs, prompts=prompts, contexts=[None] * len(pairs))

    def answer_in_context(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], contexts: Sequence[PairContext]
    ) -> list[list[Answer]]:
        """Answer as `answer_prompts` does, and put dates, place and size into each message.

        Raises:
            ValueError: as `answer_prompts`.
            EndpointError: likewise.
        """
        return self._answer(pairs, prompts=prompts, contexts=contexts)

    def _answer(
        self, pairs: npt.NDArray[np.uint8], *, prompts: Sequence[Prompt], contexts: Sequence[PairContext | None]
    ) -> list[list[Answer]]:
        if pairs.dtype != np.uint8 or pairs.ndim != 5 or pairs.shape[1:3] != (2, 3):
            raise ValueError(
                f"pairs of {pairs.dtype} and shape {pairs.shape}; expected uint8 and (n, date=2, band=3, y, x); "
                "give RGB of both dates, before first"
            )
        shown = list(zip(pairs, contexts, strict=True))
        keys = [[_name_question(*each, prompt=prompt) for prompt in prompts] for each in shown]
        known = {key: self._answered[key] for row in keys for key in row if key in self._answered}
        missing = {
            key: prompt.kind for row in keys for key, prompt in zip(row, prompts, strict=True) if key not in known
        }
        asked = list(missing.items())
        problems: list[EndpointError] = []
        requests = _make_requests(shown, prompts=prompts, keys=keys, wanted=set(missing))
        for position, outcome in self.endpoint.ask_all(requests):
            key, kind = asked[position]
            if isinstance(outcome, EndpointError):
                problems.append(outcome)
            else:
                known[key] = self._keep(key, outcome, kind=kind)
        if problems:
            raise problems[0]
        return [[known[row[column]] for row in keys] for column in range(len(prompts))]

    def _keep(self, key: str, reply: ChatReply, *, kind: PromptKind) -> Answer:
        if not reply.tokens:
            self._notes["the server tells no probabilities: answers without a confidence"] += 1
        if not reply.text:
            self._notes["the model said nothing"] += 1
        elif reply.is_cut_off:
            self._notes["answers cut off at the limit of tokens"] += 1
        for name in self.endpoint.refused_parameters & {"temperature"}:
            self._notes[f"the server takes no {name}: it may answer otherwise another time"] += 1
        answer = Answer(text=to_sentence(kind, reply.text), confidence=measure_confidence(kind, reply.tokens))
        while len(self._answered) >= MAX_ANSWERS_KEPT:
            del self._answered[next(iter(self._answered))]
        self._answered[key] = answer
        return answer


def _name_question(pair: npt.NDArray[np.uint8], context: PairContext | None, *, prompt: Prompt) -> str:
    known = context and asdict(context)
    digest = hashlib.sha256(json.dumps([pair.shape, prompt.kind.value, prompt.text, known]).encode())
    digest.update(pair.tobytes())
    return digest.hexdigest()


def _make_requests(
    shown: Sequence[tuple[npt.NDArray[np.uint8], PairContext | None]],
    *,
    prompts: Sequence[Prompt],
    keys: Sequence[Sequence[str]],
    wanted: set[str],
) -> Iterator[ChatRequest]:
    """Make the requests that are wanted, each once, pair by pair and only when they are taken."""
    for (pair, context), row in zip(shown, keys, strict=True):
        asked = {key: prompt for key, prompt in zip(row, prompts, strict=True) if key in wanted}
        wanted -= set(asked)
        if asked:
            images = encode_pair(pair)
            yield from (make_request(images, prompt=prompt, context=context) for prompt in asked.values())


def encode_pair(pair: npt.NDArray[np.uint8]) -> tuple[str, str]:
    """Give both dates of a pair, uint8 of shape (date=2, band=3, y, x), as data URLs of PNG images."""
    before, after = (_encode_image(image) for image in pair.transpose(0, 2, 3, 1))
    return before, after


def _encode_image(image: npt.NDArray[np.uint8]) -> str:
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(sink, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"


def make_request(images: tuple[str, str], *, prompt: Prompt, context: PairContext | None = None) -> ChatRequest:
    """Write the one message: both images with their labels, the question, and the form of its answer.

    Args:
        images: URLs of the images of the earlier and the later date.
        prompt: The question; a text with history goes as it is, ``q: ... a: ...  q: ...``.
        context: What else is known of the pair.
    """
    form = load_message_book().forms[prompt.kind]
    response_format = make_response_format(prompt.kind)
    write = partial(_write_message, images, context=context)
    structured = None
    if response_format is not None:
        asked = write(question=f"{prompt.text}\n\n{form.json_form}")
        structured = StructuredRequest(messages=asked, response_format=response_format)
    return ChatRequest(
        messages=write(question=f"{prompt.text}\n\n{form.form}"),
        max_tokens=form.max_tokens,
        n_alternatives=N_ALTERNATIVES,
        structured=structured,
    )


def _write_message(
    images: tuple[str, str], *, question: str, context: PairContext | None
) -> tuple[dict[str, Any], ...]:
    book = load_message_book()
    known = [] if context is None else [{"type": "text", "text": describe_context(context, book=book)}]
    content: list[dict[str, Any]] = [
        *known,
        {"type": "text", "text": book.before_label},
        {"type": "image_url", "image_url": {"url": images[0]}},
        {"type": "text", "text": book.after_label},
        {"type": "image_url", "image_url": {"url": images[1]}},
        {"type": "text", "text": question},
    ]
    return ({"role": "user", "content": content},)


def describe_context(context: PairContext, *, book: MessageBook) -> str:
    """Say what is known of a pair, in the words of the book."""
    values = asdict(context)
    has_dates = context.before_date is not None and context.after_date is not None
    return " ".join(line.format(**values) for line in (book.place_line, *([book.dates_line] if has_dates else [])))


def measure_confidence(kind: PromptKind, tokens: Sequence[ReplyToken]) -> float:
    """Give the confidence as `Answer.confidence` defines it; NaN without probabilities."""
    spoken = [token for token in tokens if token.text.strip()]
    first = _strip_word(spoken[0].text) if spoken else ""
    if kind is not PromptKind.CLASSIFY or first not in {"yes", "no"}:
        return mean_probability(spoken)
    probabilities = {"yes": 0.0, "no": 0.0}
    for text, probability in spoken[0].alternatives:
        word = _strip_word(text)
        if word in probabilities:
            probabilities[word] += probability
    both = math.fsum(probabilities.values())
    return probabilities[first] / both if both > 0 else spoken[0].probability


def _strip_word(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())
