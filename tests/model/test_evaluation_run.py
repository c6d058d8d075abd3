"""What a model is asked, what comes of its answers, and what is made of a model that fails or gives no confidence."""

import json
import math

import numpy as np
import pytest

import model.evaluation.evaluation as evaluation_module
import model.evaluation.writing as writing_module
from model.errors import InputError
from model.evaluation.asking import answer_tiles
from model.evaluation.cases import Case, EvaluationTile
from model.evaluation.evaluation import EvaluationSettings, evaluate_tiles
from model.evaluation.measures import BootstrapSettings
from model.evaluation.table import explain_table, flatten_figures, list_rows, write_markdown
from model.evaluation.writing import check_output, write_evaluation
from model.interface import Answer, ModelIdentity, Prompt, PromptKind
from model.parsing import ParsedClassify, ParsedCount, ParsedLocate
from model.prompts import load_prompt_book

PROMPTS = {prompt.kind: prompt for prompt in load_prompt_book().prompts}
DESCRIBE = PROMPTS[PromptKind.DESCRIBE]
QUICK = EvaluationSettings(has_meteor=False, bootstrap=BootstrapSettings(n_draws=50))


class Teller:
    """Answers by the brightness of the later date, and remembers what it was asked."""

    identity = ModelIdentity(model_id="teller", weight_hash="0" * 64, path="nowhere")

    def __init__(self, *, confidence: float = 0.75, refuses: int | None = None) -> None:
        self.confidence = confidence
        self.refuses = refuses
        self.calls: list[tuple[int, list[str]]] = []

    def answer_prompts(self, pairs, *, prompts):
        self.calls.append((len(pairs), [prompt.text for prompt in prompts]))
        if self.refuses in pairs[:, 1, 0, 0, 0]:
            raise InputError(f"grey level {self.refuses}", expected="another", remedy="ask of other tiles")
        return [[self.answer(pair, prompt) for pair in pairs] for prompt in prompts]

    def answer(self, pair, prompt):
        is_brighter, is_darker = pair[1].mean() > pair[0].mean(), pair[1].mean() < pair[0].mean()
        texts = {
            PromptKind.CLASSIFY: "Yes" if is_brighter else "No",
            PromptKind.COUNT: f"0 roads has changed, and {2 if is_brighter else 0} buildings has changed.",
            PromptKind.LOCATE: f"roads: []. buildings: {['top-left'] if is_brighter else []}.",
            PromptKind.DESCRIBE: "a house is removed ." if is_darker else "a house is built .",
            PromptKind.ASK: "two houses",
            PromptKind.DIALOGUE: "a house is built .",
        }
        return Answer(text=texts[prompt.kind], confidence=self.confidence)


def make_tile(name: str, *, after: int = 200, side: int = 8, cases: tuple[Case, ...] = (), **facts) -> EvaluationTile:
    pixels = np.full((2, 3, side, side), 100, np.uint8)
    pixels[1] = after
    return EvaluationTile(name=name, scene=name, pixels=pixels, cases=cases or (ask_classify(True),), **facts)


def ask_classify(is_changed: bool) -> Case:
    prompt = PROMPTS[PromptKind.CLASSIFY]
    return Case(id="c", prompt=prompt, truth=ParsedClassify(is_changed=is_changed), is_changed=is_changed)


def ask_words(kind: PromptKind, text: str, *references: str, is_in_dialogue: bool = False) -> Case:
    return Case(
        id=text,
        prompt=Prompt(name=text, kind=kind, text=text),
        references=references,
        is_changed=True,
        is_in_dialogue=is_in_dialogue,
    )


def test_what_all_tiles_are_asked_goes_in_one_call_and_the_rest_tile_by_tile():
    model = Teller()
    shared = ask_classify(True)
    cases = [(shared, ask_words(PromptKind.ASK, f"Which {n}?", "two")) for n in range(2)]
    tiles = [make_tile("a", cases=cases[0]), make_tile("b", cases=cases[1]), make_tile("c", side=9)]
    answered = [tile for tile, _ in answer_tiles(model, tiles, skipped=[])]
    assert model.calls == [
        (2, [shared.prompt.text]),
        (1, ["Which 0?"]),
        (1, ["Which 1?"]),
        # Of another size, so not together with the others.
        (1, [shared.prompt.text]),
    ]
    assert [[a.answer.text for a in tile.answered] for tile in answered] == [["Yes", "two houses"]] * 2 + [["Yes"]]


def test_a_tile_that_the_model_refuses_is_found_and_left_out():
    model, skipped = Teller(refuses=123), []
    tiles = [make_tile(str(k), after=123 if k == 3 else 200) for k in range(7)]
    answered = [tile for tile, _ in answer_tiles(model, tiles, skipped=skipped)]
    assert [tile.name for tile in answered] == ["0", "1", "2", "4", "5", "6"]
    assert [(one.name, "grey level 123" in one.reason) for one in skipped] == [("3", True)]
    with pytest.raises(ValueError, match="grey level 123; expected another; ask"):
        list(answer_tiles(model, [make_tile("a", after=123), make_tile("b", after=123)], skipped=[]))


def make_full_tile(name: str, *, is_changed: bool, is_right: bool = True) -> EvaluationTile:
    cells = ("top-left",) if is_changed else ()
    n_buildings = 2 if is_changed else 0
    cases = (
        ask_classify(is_changed),
        Case(id="n", prompt=PROMPTS[PromptKind.COUNT], truth=ParsedCount(building_count=n_buildings, road_count=0)),
        Case(id="l", prompt=PROMPTS[PromptKind.LOCATE], truth=ParsedLocate(building_cells=cells, road_cells=())),
        Case(id="d", prompt=DESCRIBE, references=("a house is built .",) * 5, is_changed=is_changed),
    )
    after = 200 if is_changed == is_right else 100
    return make_tile(name, after=after, cases=cases, flag=is_changed, building_count=n_buildings)


def test_right_answers_score_everything_and_the_swap_shows_what_went():
    tiles = [make_full_tile(str(k), is_changed=k % 2 == 0) for k in range(6)]
    found = evaluate_tiles(Teller(), tiles, settings=EvaluationSettings(swap_prompt=DESCRIBE, has_meteor=False))
    expected = {
        "classify.accuracy": 1,
        "classify.f1": 1,
        "locate.building.f1": 1,
        "count.building.mae": 0,
        "count.road.rmse": 0,
        "describe.bleu4": pytest.approx(1, abs=1e-6),
        "describe.changed_only.rouge_l": 1,
        "classify.ece": 0.25,
        "swap.removed_fraction": 1,
        "swap.built_fraction": 0,
        "swap.unswapped_built_fraction": 1,
    }
    assert {name: found.value(name) for name in expected} == expected
    assert found.get("swap.removed_fraction").n_rows == 3
    assert found.n_scenes == 6
    # All are right at 0.75: the surer the better.
    assert found.temperature == pytest.approx(0.05, rel=1e-6)
    with pytest.raises(KeyError):
        found.value("describe.meteor")
    with pytest.raises(KeyError):
        found.get("no.such.figure")


def test_a_model_without_confidences_is_not_calibrated_and_that_is_said():
    found = evaluate_tiles(Teller(confidence=math.nan), [make_full_tile("a", is_changed=True)], settings=QUICK)
    assert found.get("classify.ece").value is None
    assert found.value("classify.accuracy") == 1
    assert found.temperature is None
    assert evaluation_module.NO_CONFIDENCE in found.notes


def test_without_java_meteor_is_left_out_and_that_is_said(monkeypatch):
    monkeypatch.setattr(evaluation_module, "has_java", lambda: False)
    found = evaluate_tiles(Teller(), [make_full_tile("a", is_changed=True)], settings=EvaluationSettings())
    assert found.get("describe.meteor").value is None
    assert evaluation_module.NO_METEOR in found.notes


def test_open_questions_and_dialogues_are_scored_apart():
    prompt = PROMPTS[PromptKind.COUNT]
    counted = Case(
        id="n", prompt=prompt, truth=ParsedCount(building_count=5, road_count=0), is_changed=True, is_in_dialogue=True
    )
    last = ask_words(PromptKind.DIALOGUE, "q: ... a: ...  q: Describe.", "a house is built .", is_in_dialogue=True)
    cases = (ask_words(PromptKind.ASK, "What?", "two houses"), counted, last)
    figures = flatten_figures(evaluate_tiles(Teller(), [make_tile("a", cases=cases)], settings=QUICK).figures)
    assert figures["ask.bleu2"] == pytest.approx(1, abs=1e-6)
    assert figures["dialogue.count.building.mae"] == 3
    assert figures["dialogue.rouge_l"] == 1
    assert figures["count.building.mae"] is None
    assert figures["describe.cider"] is None


def test_no_tile_is_an_error():
    with pytest.raises(ValueError, match=r"no tile to ask about; expected .+; look"):
        evaluate_tiles(Teller(), [], settings=QUICK)


def test_an_evaluation_is_written_with_every_answer_and_pictures(tmp_path):
    tiles = [make_full_tile(str(k), is_changed=k % 2 == 0, is_right=k != 3) for k in range(6)]
    settings = EvaluationSettings(
        swap_prompt=DESCRIBE, has_meteor=False, bootstrap=BootstrapSettings(n_draws=50, seed=1)
    )
    found = evaluate_tiles(Teller(), tiles, settings=settings)
    check_output(tmp_path / "out" / "deep")
    files = write_evaluation(found, tmp_path / "out" / "deep", skipped=found.skipped, inputs={"data": "made"})
    names = ["answers.jsonl", "table.md", "reliability.png", "confidence.png", "counts.png", "cells.png"]
    assert [file.name for file in files] == [*names, "evaluation.json"]
    assert all(file.stat().st_size > 0 for file in files)
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(lines) == 6 * 4 + 3 * 2
    wrong = [line for line in lines if line["kind"] == "classify" and line["meaning"] != line["truth"]]
    assert [(line["tile"], line["answer"], line["confidence"]) for line in wrong] == [("3", "Yes", 0.75)]
    record = json.loads(files[-1].read_text())
    assert record["figures"]["classify.accuracy"]["value"] == pytest.approx(5 / 6)
    assert record["figures"]["classify.accuracy"]["paper"] == 0.9399
    assert record["inputs"] == {"data": "made"}
    assert record["reliability"][11]["n_answers"] == 6


def test_an_evaluation_that_was_stopped_leaves_no_record_of_the_former_one(tmp_path, monkeypatch):
    found = evaluate_tiles(Teller(), [make_full_tile(str(k), is_changed=k > 1) for k in range(3)], settings=QUICK)
    write_evaluation(found, tmp_path, skipped=found.skipped, inputs={})

    def stop(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing_module, "write_plots", stop)
    with pytest.raises(KeyboardInterrupt):
        write_evaluation(found, tmp_path, skipped=found.skipped, inputs={})
    assert (tmp_path / "table.md").exists()
    assert not (tmp_path / "evaluation.json").exists()


def test_the_table_stands_beside_the_paper(tmp_path):
    found = evaluate_tiles(Teller(), [make_full_tile(str(k), is_changed=k > 1) for k in range(6)], settings=QUICK)
    rows = {row.name: row for row in list_rows(found.figures)}
    assert rows["count.building.mae"].paper == "1.3200"
    assert rows["classify.accuracy"].baseline == "0.6667"
    assert rows["describe.cider"].paper == "1.3672"
    assert "describe.meteor" not in rows
    lines = write_markdown(found).splitlines()
    assert "| classify.accuracy | 1.0000 | 1.000 to 1.000 | 6 | 0.6667 | 0.9399 |" in lines
    assert any("arXiv 2507.22346" in line for line in explain_table(found))


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .+ name another --output"):
        check_output(tmp_path / "file" / "out")
