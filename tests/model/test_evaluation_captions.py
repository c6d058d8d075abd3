"""Captions are cut as LEVIR-CC cuts them and scored as pycocoevalcap scores them."""

import gzip
import json

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from model.evaluation.captions import CaptionedText, Meteor, has_java, measure_captions, tokenize_caption
from model.evaluation.measures import BootstrapSettings, estimate_figures

WORDS = ("a", "some", "two", "house", "houses", "road", "trees", "are", "is", "built", "removed", "in", "the", "corner")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("there is no difference .", "there is no difference"),
        ("A road appears at the lower-left T-junction.", "a road appears at the lower-left t-junction"),
        ("  two\nhouses ; (new)  ", "two houses new"),
        (" . ", ""),
        ("", ""),
    ],
)
def test_captions_are_cut_into_words(text, tokens):
    assert tokenize_caption(text) == tokens


def test_all_captions_of_levir_cc_give_their_tokens(shared_data):
    file = shared_data / "data" / "fixtures" / "captions" / "LevirCCcaptions_trainval_from_tokens.json.gz"
    sentences = [s for image in json.loads(gzip.decompress(file.read_bytes()))["images"] for s in image["sentences"]]
    assert len(sentences) == 40_740
    assert all(tokenize_caption(s["raw"]).split() == s["tokens"] for s in sentences)


def make_texts(n_texts: int) -> list[CaptionedText]:
    random = np.random.default_rng(5)

    def speak() -> str:
        return " ".join(random.choice(WORDS, size=random.integers(3, 12)))

    texts = []
    for index in range(n_texts):
        references = tuple(f"{speak()} ." for _ in range(5))
        said = references[0][:-4] if index % 3 else speak()
        texts.append(CaptionedText(scene=str(index // 2), text=said, references=references))
    return texts


def estimate(texts: list[CaptionedText], *, meteor: Meteor | None = None, n_draws: int = 2) -> dict:
    measures = measure_captions(texts, prefix="describe", meteor=meteor)
    return {f.name: f for f in estimate_figures(measures, settings=BootstrapSettings(n_draws=n_draws))}


def test_scores_are_those_of_pycocoevalcap():
    texts = make_texts(40)
    references = {k: [tokenize_caption(r) for r in text.references] for k, text in enumerate(texts)}
    said = {k: [tokenize_caption(text.text)] for k, text in enumerate(texts)}
    figures = estimate(texts)
    for n, expected in enumerate(Bleu(4).compute_score(references, said, verbose=0)[0], start=1):
        assert figures[f"describe.bleu{n}"].value == pytest.approx(expected, rel=1e-9)
    for name, scorer in (("rouge_l", Rouge()), ("cider", Cider())):
        assert figures[f"describe.{name}"].value == pytest.approx(scorer.compute_score(references, said)[0], rel=1e-9)
    assert figures["describe.meteor"].value is None


def test_the_interval_of_a_corpus_score_is_that_of_corpora_drawn_again():
    texts = make_texts(40)
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        chosen = [texts[2 * scene + k] for scene in random.integers(0, 20, 20) for k in (0, 1)]
        references = {k: [tokenize_caption(r) for r in text.references] for k, text in enumerate(chosen)}
        drawn.append(Bleu(4).compute_score(references, {k: [t.text] for k, t in enumerate(chosen)}, verbose=0)[0][3])
    figure = estimate(texts, n_draws=2000)["describe.bleu4"]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=0.03)


def test_people_who_say_the_same_everywhere_are_the_baseline():
    same, other = "no change has occurred .", "a house is built in the corner ."
    texts = [
        CaptionedText(scene=str(k), text=other, references=(same, f"tree {k}", other if k else same)) for k in range(4)
    ]
    figures = estimate(texts)
    baseline = figures["describe.bleu4"].baseline
    assert baseline.rule == '"no change has occurred", everywhere'
    assert baseline.value == pytest.approx(1.0, abs=1e-6)
    assert figures["describe.bleu4"].value < 1


def test_silence_scores_nothing():
    texts = [CaptionedText(scene="a", text=text, references=("a house is built .",)) for text in ("", " . ")]
    assert all(figure.value in {0.0, None} for figure in estimate(texts).values())


def test_nothing_to_score_is_no_figure():
    assert all(figure.value is None and figure.baseline is None for figure in estimate([]).values())


@pytest.mark.skipif(not has_java(), reason="METEOR needs Java")
def test_meteor_knows_what_is_the_same_and_what_is_not():
    texts = [
        CaptionedText(scene="a", text="a house is built", references=("a house is built .", "trees ||| are gone")),
        CaptionedText(scene="b", text="", references=("a house is built .",)),
    ]
    with Meteor() as meteor:
        assert meteor.score(texts[:1]) == pytest.approx(1.0)
        assert estimate(texts, meteor=meteor)["describe.meteor"].value < 1
        assert estimate(texts, meteor=meteor)["describe.meteor"].low is None
