"""Open questions about many pairs, written by a language model: ask, check, ask once more, count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from model.changechat.assistant import Assistant, make_request, make_second_request
from model.changechat.building import MeasuredPair
from model.changechat.open_questions import CheckedReply, OpenQuestion, check_reply
from model.changechat.pair_notes import PairNotes
from model.changechat.schema import Record, Turn
from model.interface import PromptKind
from model.remote.endpoint import ChatRequest
from model.remote.replies import ChatReply

ProgressCallback = Callable[[int, int], None]
"""Is told how many replies are there, of how many."""


@dataclass(frozen=True, kw_only=True)
class NotedPair:
    """A pair to be asked about."""

    measured: MeasuredPair
    notes: PairNotes


@dataclass(frozen=True, kw_only=True)
class OpenQuestions:
    """What came of asking."""

    records: tuple[Record, ...]
    """One for each question, of kind `ask`, in the order of the pairs."""
    n_pairs: int
    """Pairs that have at least one question."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Questions, or whole replies, that could not be used, by reason, both times that a pair was asked about."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why there is no reply, by the image of the earlier date."""
    n_not_asked: int = 0
    """Requests, first and second ones, beyond those that were allowed."""


def write_open_questions(
    pairs: Sequence[NotedPair], *, assistant: Assistant, on_progress: ProgressCallback | None = None
) -> OpenQuestions:
    """Have questions written about pairs.

    Where something in a reply cannot be used, its pair is asked about once more. Equal pairs and equal replies,
    fresh or from the cache, give equal records.

    Args:
        pairs: The pairs with what is known of them.
        assistant: Who is asked.
        on_progress: Is told how far it is.

    Raises:
        EndpointError: the server does not answer any more; what it said is in the assistant's cache.
        InputError: the cache cannot be written.
    """
    tell = on_progress or (lambda _done, _total: None)
    first = make_first_requests(pairs, n_questions=assistant.n_questions)
    replies, failed = _collect(dict(enumerate(first)), assistant=assistant, tell=lambda done: tell(done, len(pairs)))
    checked = {
        index: check_reply(reply.text, notes=pairs[index].notes, max_questions=assistant.n_questions)
        for index, reply in sorted(replies.items())
    }
    second = {
        index: make_second_request(
            first[index],
            reply=replies[index].text,
            rejected=outcome.rejected,
            n_questions=assistant.n_questions - len(outcome.accepted),
        )
        for index, outcome in checked.items()
        if outcome.rejected and len(outcome.accepted) < assistant.n_questions
    }
    n_all = len(pairs) + len(second)
    more, failed_again = _collect(second, assistant=assistant, tell=lambda done: tell(len(pairs) + done, n_all))
    rechecked = {
        index: check_reply(
            reply.text,
            notes=pairs[index].notes,
            asked=[made.question for made in checked[index].accepted],
            max_questions=assistant.n_questions - len(checked[index].accepted),
        )
        for index, reply in sorted(more.items())
    }
    n_not_asked = n_all - len(replies) - len(failed) - len(more) - len(failed_again)
    return _sum_up(pairs, outcomes=[checked, rechecked], failed=failed | failed_again, n_not_asked=n_not_asked)


def make_first_requests(pairs: Sequence[NotedPair], *, n_questions: int) -> list[ChatRequest]:
    """Make the request about each pair, as `write_open_questions` sends it first."""
    return [make_request(pair.notes, n_questions=n_questions) for pair in pairs]


def _collect(
    requests: Mapping[int, ChatRequest], *, assistant: Assistant, tell: Callable[[int], None]
) -> tuple[dict[int, ChatReply], dict[int, str]]:
    """Ask, and sort what comes into replies and failures, both by the index of the pair."""
    indices = list(requests)
    replies: dict[int, ChatReply] = {}
    failed: dict[int, str] = {}
    for position, outcome in assistant.ask_all(list(requests.values())):
        if isinstance(outcome, ChatReply):
            replies[indices[position]] = outcome
        else:
            failed[indices[position]] = str(outcome)
        tell(len(replies) + len(failed))
    return replies, failed


def _sum_up(
    pairs: Sequence[NotedPair],
    *,
    outcomes: Sequence[Mapping[int, CheckedReply]],
    failed: Mapping[int, str],
    n_not_asked: int,
) -> OpenQuestions:
    accepted: dict[int, list[OpenQuestion]] = {}
    rejected: Counter[str] = Counter()
    for outcome in outcomes:
        for index, checked in outcome.items():
            accepted.setdefault(index, []).extend(checked.accepted)
            rejected.update(rejection.reason for rejection in checked.rejected)
    records = [_make_record(pair, made) for index, pair in enumerate(pairs) for made in accepted.get(index, ())]
    return OpenQuestions(
        records=tuple(records),
        n_pairs=sum(bool(made) for made in accepted.values()),
        rejected=dict(sorted(rejected.items())),
        failed={pairs[index].measured.pair.before_image: why for index, why in sorted(failed.items())},
        n_not_asked=n_not_asked,
    )


def _make_record(noted: NotedPair, made: OpenQuestion) -> Record:
    pair = noted.measured.pair
    return Record(
        id=pair.id,
        split=pair.split,
        kind=PromptKind.ASK,
        before_image=pair.before_image,
        after_image=pair.after_image,
        is_changed=noted.measured.is_changed,
        turns=(Turn(question=made.question, answer=made.answer),),
    )
