"""The words whose meaning in an answer is beyond doubt, and the sentences that say that nothing or something changed.

An answer with one word beside these, or with a sign that may carry a meaning (``~3``, ``30%``, ``top-left?``), is not
read at all: any word that is not known may turn round or blur what it stands beside.
"""

from __future__ import annotations

import re

KIND_OF_WORD = {
    "building": "building",
    "buildings": "building",
    "house": "building",
    "houses": "building",
    "villa": "building",
    "villas": "building",
    "road": "road",
    "roads": "road",
    "street": "road",
    "streets": "road",
}
"""What counts as a building and what as a road."""
KIND = "(?:" + "|".join(KIND_OF_WORD) + ")"

_PLAIN = """
a an the there is are was were be been being has have had and or nor in of on at to for both between two with also it
they that which these total number count yes no none any each respectively i can see changed change changes changing
new newly more additional other small large long residential appear appears appeared built constructed erected added
removed demolished destroyed replaced cleared disappear disappears disappeared occur occurs occurred happened located
location locations position positions visible seen found detected observed identified image images scene scenes
picture pictures date dates cell cells area areas region regions part parts corner difference differences following
"""
PLAIN_WORDS = frozenset(_PLAIN.split())
"""Words that leave what they surround as it is. Any other, such as "not", "except", "remain" or "about", may not."""

_ODD_SIGN = re.compile(r"[^\w\s.,:;!'\"\u2018\u2019\u201c\u201d`*()\[\]{}/&\u2212-]|(?:[:=(\[,]\s*|^\s*)!|!(?=[\w\[])")

# Sentences that say that nothing changed, in the words of LEVIR-CC and ChangeChat and close to them, bare of
# punctuation. Whatever follows, such as "apart from two houses", makes another sentence of them.
_OF_KINDS = rf"(?: (?:in|to|of) (?:the |any )?{KIND} (?:or|and|nor) (?:the |any )?{KIND})?"
_IN_IMAGES = r"(?: (?:between|in) (?:the |these |both )?(?:two )?(?:images|scenes|pictures|dates))?"
_SEEN = r"(?: (?:(?:has|have) (?:occurred|happened)|(?:is|are|was|were) (?:visible|seen|found|detected|observed)))?"
_NOTHING_CHANGED = re.compile(
    rf"(?:there (?:is|are|was|were) )?no (?:obvious |visible |significant )?(?:changes?|differences?)"
    rf"{_SEEN}{_OF_KINDS}{_IN_IMAGES}"
    r"|(?:almost )?nothing has changed"
    r"|there (?:is|are) none|there (?:is|are) not|they have not|it has not"
    r"|(?:the |both )?(?:two )?(?:scenes?|images) (?:has|have) not changed"
    r"|(?:the |both )?(?:two )?(?:scenes?|images) (?:is|are|seems?|looks?|remains?)"
    r" (?:identical|unchanged|the same)(?: as before)?"
)

# What may stand behind a "yes": things on the ground, how many, where, and that they changed.
_THINGS = """
structure structures construction constructions development home homes bungalow bungalows residences block blocks row
rows tree trees forest forests woods jungle plants vegetation bushes shrubs grass grassland lawn meadow field fields
land bareland barelands desert wasteland sand soil ground plot plots parking lot lots pool pools lake pond path paths
roundabout crossroad crossroads intersection court playground square garden bridge highway track factory warehouse site
sites car cars driveway driveways neighborhood neighbourhood
"""
_AROUND = """
several some many multiple numerous three four five six seven eight nine ten eleven twelve one lot significant
significantly major clear clearly obvious noticeable substantial considerable various significantly including along
beside near around next by top bottom left right center centre middle upper lower side edge corners
sides edges north south east west
"""
_CHANGING = re.compile(
    r"\b(?:chang(?:e|es|ed)|differ(?:s|ent|ences?)?|built|constructed|erected|added|removed|demolished|destroyed"
    r"|replaced|cleared|expanded|extended|(?:dis)?appear(?:s|ed)?|emerged?)\b"
    rf"|\bnew(?:ly)? (?:\w+ ){{0,2}}(?:{'|'.join((*KIND_OF_WORD, *_THINGS.split()))})\b"
)
_MERE_YES = re.compile(r"there (?:is|are)|they have|it has")
_I_SEE = re.compile(r"\b(?:i|we|one) can see\b|\bcan be (?:seen|found|observed|detected|identified)\b")
_YES_WORDS = (
    PLAIN_WORDS - {"no", "none", "or", "nor", "any", "each", "other", "i", "can", "to"}
    | frozenset((*KIND_OF_WORD, *_THINGS.split(), *_AROUND.split()))
    | {"different", "differ", "differs", "expanded", "extended", "emerge", "emerged", "as", "well"}
)


def has_odd_signs(text: str) -> bool:
    """Tell whether a text holds a sign that may carry a meaning, such as a question mark, ``~``, ``<`` or ``%``."""
    return _ODD_SIGN.search(text) is not None


def list_words(text: str) -> list[str]:
    """List words and numbers of a text in lower case, whatever alphabet they are of."""
    return re.findall(r"[^\W_]+", text.lower())


def says_nothing_changed(text: str) -> bool:
    """Tell whether every sentence of a text says that nothing changed."""
    sentences = [" ".join(list_words(part)) for part in re.split(r"[.!;\n]", text)]
    # "No, there are no changes." is a no and a sentence; lost punctuation leaves them as one.
    bare = [re.sub(r"^no (?=no |nothing |the |both |there |they |it )", "", each) for each in sentences if each]
    said = [sentence for sentence in bare if sentence != "no"]
    return bool(said) and all(_NOTHING_CHANGED.fullmatch(sentence) for sentence in said)


def says_something_changed(text: str) -> bool:
    """Tell whether a text says yes, and nothing behind it that may turn that round."""
    words = list_words(text)
    if not words or words[0] != "yes" or re.search(r"[\[\]{}]", text):
        # Whatever stands in brackets may be an empty list.
        return False
    rest = _I_SEE.sub(" ", " ".join(words).removeprefix("yes").strip())
    if set(words) == {"yes"} or _MERE_YES.fullmatch(rest):
        return True
    is_plain = all(word in _YES_WORDS or re.fullmatch(r"[1-9]\d{0,2}", word, re.ASCII) for word in rest.split())
    return is_plain and _CHANGING.search(rest) is not None
