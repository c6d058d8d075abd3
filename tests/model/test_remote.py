"""Models behind an OpenAI-compatible server: what is sent, what is read, and every way in which it goes wrong."""

from __future__ import annotations

import gc
import json
import math
import pickle
import socket
from dataclasses import replace
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from openai import OpenAI
from openai_server import SOON, Body, Fault, Reply, read_pair, read_texts, refuse, serve
from patience import PATIENCE_S

from model.errors import InputError
from model.interface import CELL_NAMES, PairContext, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate, parse_answer
from model.prompts import load_prompt_book
from model.registry import identify_model, load_model
from model.remote.endpoint import (
    MAX_REPLY_BYTES,
    ChatRequest,
    Endpoint,
    EndpointAddress,
    EndpointSettings,
    find_refused_parameter,
)
from model.remote.model import RemoteModel, RemoteModelSource, load_message_book, measure_confidence
from model.remote.replies import EndpointError, NonsenseError, ReplyToken, read_reply

CLASSIFY = Prompt(name="changed", kind=PromptKind.CLASSIFY, text="Have these changed?")
COUNT = Prompt(name="count", kind=PromptKind.COUNT, text="How many?")
KEY = "sk-very-secret-0123456789"
HELLO = ChatRequest(messages=({"role": "user", "content": "Hello"},), max_tokens=8)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and tries that do not keep a test waiting."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("DELTAVLM_ENDPOINT_RETRIES", "2")
    monkeypatch.setenv("DELTAVLM_ENDPOINT_TIMEOUT_S", "5")


def make_pairs(n_pairs: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (n_pairs, 2, 3, 16, 24), dtype=np.uint8)


def make_model(name: str) -> RemoteModel:
    source = RemoteModelSource.from_name(name)
    return RemoteModel(Endpoint(source.address), identity=source.identify())


def say_yes(_: Body) -> Reply:
    return Reply(text="Yes")


# What a name says


def test_a_name_gives_address_model_and_identity_without_a_network() -> None:
    name = "openai:https://models.example/v1/#owner/some-model"

    identity = identify_model(name)

    assert EndpointAddress.parse(name) == EndpointAddress(
        base_url="https://models.example/v1", model="owner/some-model"
    )
    assert identity.model_id == "owner/some-model@models.example"
    assert len(identity.weight_hash) == 64
    others = ("openai:https://models.example/v1#other", "openai:https://models.example/v2#owner/some-model")
    assert identity.weight_hash not in {identify_model(other).weight_hash for other in others}
    assert identity == identify_model("openai:https://models.example/v1#owner/some-model")


@pytest.mark.parametrize(
    "name",
    [
        "openai:",
        "openai:http://host/v1",
        "openai:http://host/v1#",
        "openai:host/v1#model",
        "openai:ftp://host/v1#model",
        "openai:http://:8000/v1#model",
        "openai:http://host:port/v1#model",
        "openai:http://[::1/v1#model",
    ],
)
def test_a_wrong_name_is_told_with_the_right_form(name: str) -> None:
    with pytest.raises(InputError, match=r"; expected openai:URL#NAME, such as .+; ") as caught:
        identify_model(name)
    assert name in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:hunter2@host/v1", "http://host/v1?api-key=hunter2"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match=r"holds a password or a query.*OPENAI_API_KEY") as caught:
        identify_model(f"openai:{url}#model")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan"])
def test_a_wrong_setting_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTAVLM_ENDPOINT_CONCURRENCY", text)
    with pytest.raises(ValueError, match=f"DELTAVLM_ENDPOINT_CONCURRENCY={text}; expected a number of at least 1; "):
        EndpointSettings.from_environment()


# What is sent


def test_both_images_go_in_one_message_earlier_first_with_the_question_and_the_form() -> None:
    (pair,) = make_pairs(1)
    with serve(say_yes) as server:
        make_model(server.name).answer_prompts(pair[None], prompts=[CLASSIFY])

    (body,) = server.bodies
    (message,) = body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url", "text", "image_url", "text"]
    np.testing.assert_array_equal(read_pair(body), pair)
    before, after, question = read_texts(body)
    assert ("earlier" in before, "later" in after) == (True, True)
    assert question.startswith("Have these changed?")
    assert "Yes or No" in question
    assert (body["model"], body["temperature"], body["logprobs"]) == ("stand-in", 0, True)
    assert server.keys == {"no-key"}


def test_answers_keep_their_places_whoever_comes_first() -> None:
    pairs = make_pairs(5)
    expected = [[f"{name} of {pair[0, 0, 0, 0]}" for pair in pairs] for name in ("How many?", "Have these changed?")]
    # Nobody is answered before three are there: so requests do go side by side.
    together = Barrier(3)

    def script(body: Body) -> Reply:
        if len(server.bodies) <= 9:
            together.wait(timeout=PATIENCE_S)
        question = read_texts(body)[-1].splitlines()[0]
        return Reply(text=f"{question} of {read_pair(body)[0, 0, 0, 0]}")

    with serve(script) as server:
        endpoint = Endpoint(
            EndpointAddress.parse(server.name), settings=EndpointSettings(n_requests_at_once=3, timeout_s=PATIENCE_S)
        )
        model = RemoteModel(endpoint, identity=identify_model(server.name))
        answers = model.answer_prompts(pairs, prompts=[COUNT, CLASSIFY])

    assert [[answer.text for answer in row] for row in answers] == expected
    assert len(server.bodies) == 10
    assert server.n_most_at_once == 3


def test_one_question_about_equal_pixels_is_sent_once() -> None:
    pairs = make_pairs(2)[[0, 1, 0]]
    with serve(say_yes) as server:
        model = make_model(server.name)
        first = model.answer_prompts(pairs, prompts=[CLASSIFY])
        again = model.answer_prompts(pairs[:1], prompts=[CLASSIFY])

    assert [answer.text for answer in first[0]] == ["Yes"] * 3
    assert [answer.text for answer in again[0]] == ["Yes"]
    assert len(server.bodies) == 2


def test_the_examples_of_the_forms_are_read_as_they_are_meant() -> None:
    forms = load_message_book().forms
    count = forms[PromptKind.COUNT].form.rpartition(": ")[2]
    locate = forms[PromptKind.LOCATE].form.partition("are none: ")[2].partition(" The cells")[0]
    described = forms[PromptKind.DESCRIBE].form.rpartition("answer: ")[2]

    assert parse_answer(PromptKind.COUNT, count) == ParsedCount(building_count=5, road_count=2)
    assert parse_answer(PromptKind.LOCATE, locate) == ParsedLocate(
        building_cells=("bottom-right",), road_cells=("top-left", "center-center")
    )
    assert parse_answer(PromptKind.CLASSIFY, described) == ParsedClassify(is_changed=False)
    assert all(name in forms[PromptKind.LOCATE].form for name in CELL_NAMES)
    assert set(forms) == set(PromptKind)


def test_a_wrong_shape_is_refused_before_anything_is_sent() -> None:
    with serve(say_yes) as server, pytest.raises(ValueError, match="expected uint8 and"):
        make_model(server.name).answer_prompts(np.zeros((1, 3, 8, 8), np.uint8), prompts=[CLASSIFY])
    assert server.bodies == []


# What is read


@pytest.mark.parametrize(
    ("kind", "tokens", "expected"),
    [
        # P(yes) is 0.5 + 0.1, P(no) 0.2, whatever else there is.
        (PromptKind.CLASSIFY, [("Yes", 0.5, {"Yes": 0.5, "No": 0.2, " yes": 0.1, "Maybe": 0.2}), (".", 0.9, {})], 0.75),
        (PromptKind.CLASSIFY, [("\n", 1.0, {}), ("no", 0.3, {"no": 0.3, "yes": 0.1})], 0.75),
        (PromptKind.CLASSIFY, [("Yes", 0.4, {})], 0.4),
        (PromptKind.CLASSIFY, [("Perhaps", 0.4, {"Yes": 0.3}), (" so", 0.8, {})], 0.6),
        (PromptKind.COUNT, [("Yes", 0.5, {"Yes": 0.5, "No": 0.5}), (" 2", 0.25, {})], 0.375),
    ],
)
def test_confidence_follows_the_probabilities(kind: PromptKind, tokens: list, expected: float) -> None:
    read = [ReplyToken(text=t, probability=p, alternatives=tuple(others.items())) for t, p, others in tokens]
    assert measure_confidence(kind, read) == pytest.approx(expected)

    def script(_: Body) -> Reply:
        return Reply(text="".join(t for t, _, _ in tokens), tokens=tokens)

    prompt = Prompt(name="x", kind=kind, text="x")
    with serve(script) as server:
        ((answer,),) = make_model(server.name).answer_prompts(make_pairs(1), prompts=[prompt])
    assert answer.confidence == pytest.approx(expected)


def test_without_probabilities_there_is_no_confidence_and_a_note_says_so() -> None:
    with serve(say_yes) as server:
        model = make_model(server.name)
        ((answer,),) = model.answer_prompts(make_pairs(1), prompts=[CLASSIFY])

    assert np.isnan(answer.confidence)
    assert model.take_notes() == {"the server tells no probabilities: answers without a confidence": 1}
    assert model.take_notes() == {}


@pytest.mark.parametrize(
    ("reply", "text", "note"),
    [
        (Reply(text=None), "", "the model said nothing"),
        (Reply(text=" \n"), "", "the model said nothing"),
        (Reply(text="\x1b[2JNo\x00 \ud800\n"), "[2JNo ?", None),
        (Reply(text=None, refusal="I cannot look at this."), "I cannot look at this.", None),
        (Reply(text="The left", finish_reason="length"), "The left", "answers cut off at the limit of tokens"),
    ],
)
def test_what_is_no_good_answer_is_kept_as_it_is(reply: Reply, text: str, note: str | None) -> None:
    with serve(lambda _: reply) as server:
        model = make_model(server.name)
        ((answer,),) = model.answer_prompts(make_pairs(1), prompts=[CLASSIFY])

    assert answer.text == text
    assert note is None or note in model.take_notes()


# What goes wrong


@pytest.mark.parametrize(
    "fault",
    [
        refuse(429, "slow down"),
        refuse(500, "oops"),
        refuse(503, "overloaded"),
        Fault(is_reset=True),
        Fault(text="<html>a proxy says hello</html>", content_type="text/html"),
        Fault(text='{"choices": ['),
        Fault(text='{"choices": []}'),
    ],
    ids=["429", "500", "503", "reset", "html", "half a json", "no choices"],
)
def test_what_goes_wrong_once_is_tried_again(fault: Fault) -> None:
    def script(_: Body) -> Reply | Fault:
        return fault if len(server.bodies) == 1 else Reply(text="Hello!")

    with serve(script) as server:
        assert Endpoint(EndpointAddress.parse(server.name)).ask(HELLO).text == "Hello!"
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("fault", "message", "n_tries"),
    [
        (refuse(429, "slow down"), r"takes no more requests \(429: slow down\); expected room within 3 tries; ", 3),
        (refuse(500, "oops"), r"answers 500 \(oops\); expected .+; ", 3),
        (Fault(status=502, text="bad\ngateway", headers=SOON), r"answers 502 \(bad gateway\); expected .+; ", 3),
        (refuse(400, "too long; expected less"), r"answers 400 \(too long, expected less\); expected .+; ", 1),
        (Fault(is_reset=True), r"broke off the connection \(.+reset.+\); expected .+; ", 3),
        (Fault(text="<html>hi</html>", content_type="text/html"), r"answers nonsense \(.+\); expected .+; ", 2),
        (Fault(text='{"choices": ['), r"answers nonsense \(.+\); expected .+; ", 2),
        (Fault(text='{"choices": [{}]}'), r"answers nonsense \(a reply without choices.+\); expected .+; ", 2),
    ],
    ids=["429", "500", "502", "400", "reset", "html", "half a json", "no message"],
)
def test_what_stays_wrong_is_told_in_one_line(fault: Fault, message: str, n_tries: int) -> None:
    with serve(lambda _: fault) as server, pytest.raises(EndpointError, match=f"^{server.url} {message}") as caught:
        Endpoint(EndpointAddress.parse(server.name)).ask(HELLO)

    assert len(server.bodies) == n_tries
    assert not caught.value.is_for_all
    assert len(str(caught.value).splitlines()) == 1


def test_a_server_that_does_not_answer_in_time() -> None:
    with serve(lambda _: Fault(is_slow=True)) as server:
        settings = EndpointSettings(timeout_s=0.2, max_retries=0)
        with pytest.raises(EndpointError, match=r"did not reply within 0\.2 s; expected a reply to one of 1 tries; "):
            Endpoint(EndpointAddress.parse(server.name), settings=settings).ask(HELLO)


def test_a_server_that_is_not_there_is_found_out_when_the_model_is_loaded() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match=f"^{url} cannot be reached .+; expected .+; start the server") as caught:
        load_model(f"openai:{url}#stand-in")
    assert caught.value.is_for_all


def test_a_model_that_is_not_there() -> None:
    with serve(say_yes) as server, pytest.raises(EndpointError, match=r"has no model .other.*does not exist") as caught:
        load_model(f"openai:{server.url}#other")
    assert caught.value.is_for_all


def test_the_key_goes_to_the_server_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level("DEBUG")
    with serve(say_yes, key=KEY) as server:
        model = load_model(server.name)
    with serve(say_yes, key="another") as stranger, pytest.raises(EndpointError, match="refuses the key of") as caught:
        load_model(stranger.name)

    assert server.keys == {KEY}
    assert KEY not in f"{model.identity}{caught.value!r}{caught.value}{caplog.text}"
    assert "401: Incorrect API key provided: Bearer ***" in str(caught.value)


def test_without_a_key_where_one_is_asked_for() -> None:
    with serve(say_yes, key=KEY) as server, pytest.raises(EndpointError, match="refuses a request without a key"):
        load_model(server.name)


def test_a_key_that_no_header_can_carry_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "geheim-für-mich")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters") as caught:
        Endpoint(EndpointAddress(base_url="http://127.0.0.1:1/v1", model="x"))
    assert "geheim" not in str(caught.value)


def test_what_a_server_refuses_is_left_out_from_there_on() -> None:
    def script(body: Body) -> Reply | Fault:
        for name in ("logprobs", "temperature"):
            if name in body:
                return refuse(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
        if "max_tokens" in body:
            return refuse(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return Reply(text="No")

    with serve(script) as server:
        model = make_model(server.name)
        ((answer,),) = model.answer_prompts(make_pairs(1), prompts=[CLASSIFY])
        model.answer_prompts(make_pairs(2)[1:], prompts=[CLASSIFY])

    assert answer.text == "No"
    assert len(server.bodies) == 5
    assert set(server.bodies[-1]) == {"model", "messages", "max_completion_tokens"}
    assert model.take_notes()["the server takes no temperature: it may answer otherwise another time"] == 2


def fill_in_schema(body: Body) -> Reply:
    """Speak loosely, unless held to a schema."""
    if "response_format" not in body:
        return Reply(text="I think there may be a few changes.")
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["roads", "buildings"]
    is_count = schema["properties"]["roads"]["type"] == "integer"
    return Reply(
        text=json.dumps({"roads": 0, "buildings": 3} if is_count else {"roads": [], "buildings": ["top-left"]})
    )


LOCATE = Prompt(name="location", kind=PromptKind.LOCATE, text="Where?")


def test_a_server_with_structured_outputs_is_given_a_schema_for_counts_and_cells() -> None:
    with serve(fill_in_schema) as server:
        answers = make_model(server.name).answer_prompts(make_pairs(1), prompts=[CLASSIFY, COUNT, LOCATE])

    assert [answer.text for (answer,) in answers[1:]] == [
        "0 roads have changed, and 3 buildings have changed.",
        "roads: []. buildings: ['top-left'].",
    ]
    assert ["response_format" in body for body in server.bodies].count(True) == 2
    assert sum('{"roads"' in read_texts(body)[-1] for body in server.bodies) == 2


@pytest.mark.parametrize("words", ["'response_format' is not supported", "extra fields not permitted", "json_schema?"])
def test_a_server_without_structured_outputs_is_tried_once_and_asked_in_words(words: str) -> None:
    def script(body: Body) -> Reply | Fault:
        if "response_format" in body:
            return refuse(400, words)
        return Reply(text="0 roads have changed, and 3 buildings have changed.")

    with serve(script) as server:
        model = make_model(server.name)
        answers = [model.answer_prompts(make_pairs(2)[[n]], prompts=[COUNT])[0][0] for n in range(2)]

    assert [parse_answer(PromptKind.COUNT, answer.text) for answer in answers] == [
        ParsedCount(road_count=0, building_count=3)
    ] * 2
    assert ["response_format" in body for body in server.bodies] == [True, False, False]


def test_a_request_that_is_refused_for_itself_does_not_end_structured_outputs() -> None:
    def script(body: Body) -> Reply | Fault:
        return refuse(400, "the image is too large") if len(server.bodies) == 2 else fill_in_schema(body)

    pairs = make_pairs(3)
    with serve(script) as server:
        model = make_model(server.name)
        model.answer_prompts(pairs[:1], prompts=[COUNT])
        with pytest.raises(EndpointError, match="the image is too large"):
            model.answer_prompts(pairs[1:2], prompts=[COUNT])
        model.answer_prompts(pairs[2:], prompts=[COUNT])

    assert ["response_format" in body for body in server.bodies] == [True] * 3


CONTEXT = PairContext(
    before_date="2025-05-01", after_date="2026-05-03", latitude=30.26721, longitude=-97.7431, side_m=128.0
)


@pytest.mark.parametrize("before_date", ["2025-05-01", None])
def test_place_size_and_dates_stand_in_front_of_the_images_where_they_are_known(before_date: str | None) -> None:
    pairs, context = make_pairs(1), replace(CONTEXT, before_date=before_date)
    with serve(say_yes) as server:
        model = make_model(server.name)
        model.answer_prompts(pairs, prompts=[CLASSIFY])
        model.answer_in_context(pairs, prompts=[CLASSIFY], contexts=[context])

    plain, told = (read_texts(body) for body in server.bodies)
    assert told[1:] == plain
    place = "128 m by 128 m of ground around latitude 30.2672, longitude -97.7431."
    assert place in told[0]
    assert ("2025-05-01, the later one on 2026-05-03" in told[0]) == (before_date is not None)


def test_a_parameter_is_found_only_among_those_sent() -> None:
    assert find_refused_parameter("temperature must be 1", sent=["temperature"]) == "temperature"
    assert find_refused_parameter("temperature must be 1", sent=["max_tokens"]) is None
    assert find_refused_parameter("max_tokens_total is no field", sent=["max_tokens"]) is None
    assert find_refused_parameter("the prompt is too long", sent=["max_tokens", "logprobs"]) is None


def test_after_a_failure_nothing_new_is_asked_and_what_came_is_not_asked_again() -> None:
    pairs = make_pairs(40)
    is_broken = True

    def script(body: Body) -> Reply | Fault:
        is_bad = is_broken and (read_pair(body) == pairs[2]).all()
        return refuse(400, "I do not like this one") if is_bad else Reply(text="Yes")

    with serve(script) as server:
        model = make_model(server.name)
        with pytest.raises(EndpointError, match="I do not like this one"):
            model.answer_prompts(pairs, prompts=[CLASSIFY])
        n_asked = len(server.bodies)
        assert n_asked < 15
        is_broken = False
        ((*answers,),) = model.answer_prompts(pairs, prompts=[CLASSIFY])

    assert [answer.text for answer in answers] == ["Yes"] * 40
    assert len(server.bodies) == 40 + 1


def test_an_error_comes_home_from_a_worker() -> None:
    problem = EndpointError("found", expected="something", remedy="do this", is_for_all=True)
    copy = pickle.loads(pickle.dumps(problem))  # noqa: S301 - our own
    assert (str(copy), copy.is_for_all) == (str(problem), True)


def test_the_prompts_of_a_run_can_all_be_asked() -> None:
    prompts = load_prompt_book().list_all()
    with serve(say_yes) as server:
        answers = make_model(server.name).answer_prompts(make_pairs(1), prompts=prompts)
    assert len(answers) == len(prompts)
    assert all(json.dumps(body) for body in server.bodies)


def test_connections_are_closed_with_the_endpoint_even_in_a_cycle() -> None:
    """A socket that Python collects open is a ResourceWarning, which fails whatever test runs then."""
    gc.collect()
    with serve(lambda _: Reply(text="Hello!")) as server:
        endpoint = Endpoint(EndpointAddress.parse(server.name))
        assert endpoint.ask(HELLO).text == "Hello!"
        cycle: list[object] = [endpoint]
        cycle.append(cycle)
        [client] = [each for each in gc.get_objects() if type(each) is OpenAI and not each.is_closed()]
        del endpoint, cycle

        gc.collect()

        assert client.is_closed()


# What a reply says of probabilities


def make_completion(logprob: object) -> SimpleNamespace:
    token = SimpleNamespace(token="Yes", logprob=logprob, top_logprobs=None)
    message = SimpleNamespace(content="Yes", refusal=None)
    choice = SimpleNamespace(message=message, finish_reason="stop", logprobs=SimpleNamespace(content=[token]))
    return SimpleNamespace(choices=[choice], usage=None)


@pytest.mark.parametrize("logprob", [math.nan, 5.0, math.inf, "x", "-0.1", True, None, [], 10**400])
def test_a_probability_that_cannot_be_is_an_error_in_words(logprob: object) -> None:
    with pytest.raises(NonsenseError, match=r"a log-probability of .+, where numbers up to 0 are possible"):
        read_reply(make_completion(logprob))


@pytest.mark.parametrize(("logprob", "expected"), [(0, 1.0), (0.001, 1.0), (-math.inf, 0.0), (-(10**400), 0.0)])
def test_a_probability_lies_between_0_and_1(logprob: float, expected: float) -> None:
    (token,) = read_reply(make_completion(logprob)).tokens

    assert token.probability == pytest.approx(expected)


@pytest.mark.parametrize("content", ["yes", {"token": "yes"}, 7])
def test_tokens_that_are_no_list_are_an_error_in_words(content: object) -> None:
    completion = make_completion(-0.1)
    completion.choices[0].logprobs.content = content

    with pytest.raises(NonsenseError, match="probabilities that are no list"):
        read_reply(completion)


def test_no_answer_of_any_length_fills_the_memory() -> None:
    with serve(lambda _: Reply(text="y" * (MAX_REPLY_BYTES + 1))) as server:
        endpoint = Endpoint(EndpointAddress.parse(server.name))
        with pytest.raises(EndpointError, match=r"answers with a body of more than 16,777,216 bytes"):
            endpoint.ask(HELLO)

    assert len(server.bodies) == 1


def test_an_hour_that_a_server_asks_for_is_not_slept_through() -> None:
    with serve(lambda _: refuse(429, "busy", headers={"Retry-After": "3600"})) as server:
        endpoint = Endpoint(EndpointAddress.parse(server.name), settings=EndpointSettings(timeout_s=5, max_retries=1))
        with pytest.raises(EndpointError, match="takes no more requests"):
            endpoint.ask(HELLO)

    assert len(server.bodies) == 1
