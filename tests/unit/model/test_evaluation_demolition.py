"""Sentences that people would read as building, demolition, both or neither."""

import gzip
import json

import pytest

from model.questions.direction import Direction, read_direction


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("several houses are built at the top of the scene .", Direction.BUILT),
        ("two villas appear in the upper left corner of the scene .", Direction.BUILT),
        ("a road is built in the lower-left corner with some villas built along .", Direction.BUILT),
        ("a building with a path to the road shows up in the desert .", Direction.BUILT),
        ("some trees are removed and houses are built .", Direction.BUILT),
        ("trees are replaced by two rows of houses .", Direction.BUILT),
        ("many houses replace the forest .", Direction.BUILT),
        ("There are new houses in the bottom right.", Direction.BUILT),
        ("a house is built beside the villa and the trees are removed", Direction.BUILT),
        ("several houses are removed at the top of the scene .", Direction.REMOVED),
        ("Two buildings disappear.", Direction.REMOVED),
        ("the villas along the road have been demolished .", Direction.REMOVED),
        ("houses are replaced by a meadow", Direction.REMOVED),
        ("someone demolished some old houses", Direction.REMOVED),
        ("the house is no longer there", Direction.REMOVED),
        ("a row of houses vanishes, and trees appear", Direction.REMOVED),
        ("an old house is removed and two villas are built", Direction.BOTH),
        ("the former house is replaced by a large building .", Direction.BOTH),
        ("the scene is the same as before .", Direction.NEITHER),
        ("some trees are removed and a road is built", Direction.NEITHER),
        ("no houses were demolished", Direction.NEITHER),
        ("the houses have not been removed", Direction.NEITHER),
        ("the houses haven't disappeared", Direction.NEITHER),
        ("no houses, sheds or barns were built", Direction.NEITHER),
        ("neither houses nor roads were built", Direction.NEITHER),
        ("there are no new houses", Direction.NEITHER),
        ("the houses appear unchanged", Direction.NEITHER),
        ("there are no new buildings, but old ones are demolished", Direction.REMOVED),
        ("the road is not changed and a house is built", Direction.BUILT),
        ("", Direction.NEITHER),
    ],
)
def test_directions_are_read_as_people_would(text, direction):
    assert read_direction(text) == direction


def test_people_say_built_of_nearly_all_changed_pairs(shared_data):
    # Hardly any building goes in LEVIR-CC, but many trees do: a rule that took these for houses would show.
    file = shared_data / "data" / "fixtures" / "captions" / "LevirCCcaptions_trainval_from_tokens.json.gz"
    images = json.loads(gzip.decompress(file.read_bytes()))["images"]
    said = [read_direction(s["raw"]) for image in images if image["changeflag"] for s in image["sentences"]]
    assert said.count(Direction.BUILT) / len(said) > 0.7
    assert said.count(Direction.REMOVED) / len(said) < 0.03
    assert said.count(Direction.BOTH) / len(said) < 0.02
    unchanged = [read_direction(s["raw"]) for image in images if not image["changeflag"] for s in image["sentences"]]
    assert set(unchanged) == {Direction.NEITHER}
