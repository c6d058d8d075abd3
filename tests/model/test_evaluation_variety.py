"""How many sentences there are, and how much of what people agree on they tell."""

import pytest

from model.evaluation.captions import CaptionedText
from model.evaluation.measures import BootstrapSettings, estimate_figures
from model.evaluation.variety import measure_variety

PEOPLE = ("two houses replace the trees .", "two villas are built in the woods .", "houses appear at the left .")


def test_sentences_are_counted_and_details_that_people_agree_on():
    texts = [
        CaptionedText(scene="1", text="Two houses are built .", references=PEOPLE),
        CaptionedText(scene="2", text="two houses are built", references=PEOPLE),
        CaptionedText(scene="3", text="trees are gone at the left", references=PEOPLE),
    ]
    figures = estimate_figures(measure_variety(texts, prefix="d"), settings=BootstrapSettings())
    values = {figure.name: figure.value for figure in figures}
    assert values["d.n_distinct"] == 2
    # Two and trees, of which each sentence tells one; the left is one person's.
    assert values["d.details_named"] == pytest.approx(0.5)
