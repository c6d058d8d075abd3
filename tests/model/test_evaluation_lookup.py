"""A table of sentences in a model's place."""

from model.evaluation.cases import AnsweredCase, AnsweredTile, Case
from model.evaluation.lookup import look_up_descriptions
from model.interface import Answer, Prompt, PromptKind

HOUSE, HOUSES, SAME = "A house was built.", "Many houses were built.", "Nothing has changed."
FIRST, SECOND = "scene a", "scene d"
"""They are dealt into different halves."""


def make_tile(
    scene: str, *, number: int, says_yes: bool = True, count: int = 1, people: tuple[str, ...]
) -> AnsweredTile:
    name = f"{scene} {number}"

    def answer(kind: PromptKind, text: str, references: tuple[str, ...] = ()) -> AnsweredCase:
        case = Case(id=f"{name} {kind}", prompt=Prompt(name=kind, kind=kind, text="?"), references=references)
        return AnsweredCase(tile=name, scene=scene, case=case, answer=Answer(text=text, confidence=0.9))

    answered = (
        answer(PromptKind.CLASSIFY, "yes" if says_yes else "no"),
        answer(PromptKind.COUNT, f"The number of changed roads is 0 and of changed buildings is {count}."),
        answer(PromptKind.DESCRIBE, "Something.", people),
    )
    return AnsweredTile(name=name, scene=scene, flag=None, facts=None, answered=answered)


def look_up(*tiles: AnsweredTile) -> dict[str, str]:
    return {case.tile: case.answer.text for case in look_up_descriptions(tiles)}


def test_a_sentence_comes_from_other_scenes_with_the_same_answers():
    found = look_up(
        *(make_tile(FIRST, number=n, count=1, people=(HOUSE,)) for n in range(2)),
        *(make_tile(FIRST, number=n, count=20, people=(HOUSES,)) for n in range(2, 4)),
        make_tile(FIRST, number=4, says_yes=False, count=0, people=(SAME,)),
        make_tile(SECOND, number=0, count=1, people=("A villa appeared.",)),
        make_tile(SECOND, number=1, count=15, people=("Villas appeared.",)),
        make_tile(SECOND, number=2, says_yes=False, count=0, people=("All is the same.",)),
    )
    assert found[f"{SECOND} 0"] == "a house was built"
    assert found[f"{SECOND} 1"] == "many houses were built"
    assert found[f"{SECOND} 2"] == "nothing has changed"
    # Nobody is described by what was written of the own scene.
    assert found[f"{FIRST} 0"] == "a villa appeared"
    assert found[f"{FIRST} 4"] == "all is the same"


def test_an_answer_that_no_other_scene_has_gets_the_sentence_of_all():
    found = look_up(
        *(make_tile(FIRST, number=n, count=1, people=(HOUSE,)) for n in range(3)),
        make_tile(SECOND, number=0, count=5, people=("Five villas.",)),
    )
    assert found[f"{SECOND} 0"] == "a house was built"


def test_tiles_without_captions_are_left_out():
    assert look_up(make_tile(FIRST, number=0, people=())) == {}
