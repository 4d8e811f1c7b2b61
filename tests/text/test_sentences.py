"""Sentences: expected ones of hard captions, and what holds for spans of any text."""

import functools
import itertools
import re
import string
import sys
import time

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.pipeline import Sentencizer as Rule

from caft.captions import sentences, spacy_words
from caft.captions.sentences import SPLITTERS, Splitter, asked_of_spacy, many_spans, spans, split
from caft.captions.sentencizer import Sentencizer
from caft.data.scenes.captions import captions
from caft.data.scenes.grammar import TRAIN, WORDS, generator, training_scene
from caft.digests import ROOT
from pipelines import spacy_words as written

HARD = [
    ("A cat sits. A dog runs.", ["A cat sits.", "A dog runs."]),
    ("A cat sits! Does it? Yes it does.", ["A cat sits!", "Does it?", "Yes it does."]),
    ("One line\nanother line", ["One line", "another line"]),
    ("First.</s>Second.</s>", ["First.", "Second."]),
    ("It weighs 3.5 kg. It costs $12.99.", ["It weighs 3.5 kg.", "It costs $12.99."]),
    ("The bus No. 38 is red. It stops.", ["The bus No. 38 is red.", "It stops."]),
    ("Dr. Smith waves. St. John looks.", ["Dr. Smith waves.", "St. John looks."]),
    ("It opens at 7.45 a.m. every day. Then it closes.", ["It opens at 7.45 a.m. every day.", "Then it closes."]),
    ("Fruit, e.g. apples, lies there. It shines.", ["Fruit, e.g. apples, lies there.", "It shines."]),
    ("A sign says www.shop.com in red. A man reads.", ["A sign says www.shop.com in red.", "A man reads."]),
    ("The file is cat.png here. It is small.", ["The file is cat.png here.", "It is small."]),
    ('It reads "stop." A car waits.', ['It reads "stop."', "A car waits."]),
    ('He left. "Hello" is on the wall.', ["He left.", '"Hello" is on the wall.']),
    ("He left. (It is late.) She stays.", ["He left.", "(It is late.)", "She stays."]),
    ("A Yahoo! logo is here. It is purple.", ["A Yahoo! logo is here.", "It is purple."]),
    ("They wait... then go. It rains.", ["They wait... then go.", "It rains."]),
    ("The sky is grey… The sea is calm.", ["The sky is grey…", "The sea is calm."]),
    ("a cat. a dog. a bird.", ["a cat.", "a dog.", "a bird."]),
    ("There is a cat. 3 dogs run.", ["There is a cat.", "3 dogs run."]),
    ("1. A red cup. 2. A blue cup.", ["1. A red cup.", "2. A blue cup."]),
    ("- a red cup\n- a blue cup", ["- a red cup", "- a blue cup"]),
    ("“Open.” says the café’s door. Él entra.", ["“Open.” says the café’s door.", "Él entra."]),
    ("The end.Then more follows. Last.", ["The end.", "Then more follows.", "Last."]),
    ("Is it red?! No one knows.", ["Is it red?!", "No one knows."]),
    ("  spaced out  ", ["spaced out"]),
    ("", []),
    (" \n </s> \n", []),
]
# Chinese and Japanese, where nothing follows an end, and line breaks of all systems.
WIDE = [
    ("一只猫坐着。一只狗在跑！它快吗？是的。", ["一只猫坐着。", "一只狗在跑！", "它快吗？", "是的。"]),
    ("猫が座っている。犬が走る｡鳥！？魚", ["猫が座っている。", "犬が走る｡", "鳥！？", "魚"]),
    ("「行け！」と言った。猫もいる。", ["「行け！」と言った。", "猫もいる。"]),
    ("他说：“你好！”她走了。", ["他说：“你好！”", "她走了。"]),
    ("（猫。）犬。", ["（猫。）", "犬。"]),
    (
        "标志写着STOP！一辆车停下。Then it goes. It rains。好",
        ["标志写着STOP！", "一辆车停下。", "Then it goes.", "It rains。", "好"],
    ),
    ("A Yahoo！Japan logo is here.", ["A Yahoo！Japan logo is here."]),
    ("好。 是吗？", ["好。", "是吗？"]),
    ("एक बिल्ली है।वह सोती है। अच्छा।", ["एक बिल्ली है।", "वह सोती है।", "अच्छा।"]),
    ("یہ بلی ہے۔وہ سوتی ہے۔", ["یہ بلی ہے۔", "وہ سوتی ہے۔"]),
    ("هل هي قطة؟نعم.", ["هل هي قطة؟", "نعم."]),
    ("ကြောင်။အိပ်။", ["ကြောင်။", "အိပ်။"]),
    ("猫，狗、鸟；鱼", ["猫，狗、鸟；鱼"]),
]
BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029", "\x85"]
# Known failures of the rule: what it should find, and does not.
KNOWN_FAILURES = [
    ("He works at Acme Corp. Ltd. Their sign is red.", ["He works at Acme Corp. Ltd.", "Their sign is red."]),
    ("They left at 10 p.m. The street was dark.", ["They left at 10 p.m.", "The street was dark."]),
    ("This was in the U.S.A. A flag waves.", ["This was in the U.S.A.", "A flag waves."]),
    ("Fig. 3 shows a cat. It sits.", ["Fig. 3 shows a cat.", "It sits."]),
]
MIXED = st.lists(
    st.sampled_from(
        ["A cat", "dog", ".", "...", "…", "!", "?", '"', "(", ")", " ", "\n", "</s>", "No", "3", "é", "猫", "&"]
    )
    | st.text(max_size=4),
    max_size=25,
).map("".join)


PIECES = """a|cat|Dr.|dog.|dog. |No. |3.5|...|... |…|! |? |." |.) | "|(|x-y. |U.S. |e.g. |don't. |T-shirt. | |  |\n|</s>|
The |3 |é. |猫。|, |; |- |p.m. |St. |www.a.com. |i.|I.|B. |Hi. |ok! |Yahoo! |It is. |Thats. |\t""".split("|")


@pytest.mark.parametrize(("text", "sentences"), HARD)
def test_hard_captions(text: str, sentences: list[str]) -> None:
    assert split(text, "spacy") == sentences


@pytest.mark.parametrize(("text", "sentences"), WIDE)
def test_chinese_and_japanese_sentences_end_without_white_space(text: str, sentences: list[str]) -> None:
    assert split(text, "spacy") == sentences
    assert [text[start:end] for start, end in spans(text, "spacy")] == sentences


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize("line_break", BREAKS, ids=ascii)
def test_a_line_break_of_any_system_ends_a_sentence(splitter: Splitter, line_break: str) -> None:
    text = f"a red cup{line_break}a blue cup{line_break}{line_break}a cat"
    assert split(text, splitter) == ["a red cup", "a blue cup", "a cat"]


@pytest.mark.parametrize(("text", "sentences"), KNOWN_FAILURES)
@pytest.mark.xfail(strict=True, reason="the sentencizer knows no abbreviations but those of spaCy's tokenizer")
def test_known_failures(text: str, sentences: list[str]) -> None:
    assert split(text, "spacy") == sentences


def test_dreamlip_cuts_at_every_stop_and_loses_it() -> None:
    text = 'It is 3.5 m. "Go." he says!</s>Yes\nNo...'
    assert split(text, "dreamlip") == ["It is 3", "5 m", '"Go', '" he says!', "Yes", "No"]


@pytest.mark.parametrize("splitter", SPLITTERS)
@settings(max_examples=300, deadline=None)
@given(text=MIXED)
def test_spans_are_sorted_disjoint_stripped_and_cover_all_but_breaks(splitter: Splitter, text: str) -> None:
    found = spans(text, splitter)
    ends = [0, *(end for _, end in found)]
    for previous_end, (start, end) in zip(ends, found, strict=False):
        assert previous_end <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert not set(text[start:end]) & set("".join(BREAKS)) and "</s>" not in text[start:end]
    outside = "".join(text[a:b] for a, b in zip(ends, [*(start for start, _ in found), len(text)], strict=True))
    breaks = r"\n|</s>|\." if splitter == "dreamlip" else r"\n|</s>"
    assert not re.sub(breaks, "", outside).strip()


@settings(max_examples=50, deadline=None)
@given(st.lists(MIXED, max_size=5))
def test_many_texts_are_split_as_each_alone(texts: list[str]) -> None:
    assert many_spans(texts, "spacy") == [spans(text, "spacy") for text in texts]


class AsksAlways(Sentencizer):
    """Sure of nothing: spaCy gets every line, and the whole of it."""

    def between_sure_ends(self, text, start, end):
        return [(start, end)]

    def doubtful(self, text, parts):
        return [0]

    def _window(self, text, start, end):
        return start, end


@functools.cache
def asks_always() -> AsksAlways:
    return AsksAlways()


def both_ways(texts: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Sentences as they are found, and as they would be if spaCy were asked about all."""
    found = many_spans(texts, "spacy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "_sentencizer", asks_always)
        expected = many_spans(texts, "spacy")
    first, second = (
        [[text[a:b] for a, b in own] for text, own in zip(texts, way, strict=True)] for way in (found, expected)
    )
    return first, second


def test_where_an_end_is_sure_spacy_says_the_same():
    """Of every word that spaCy's tokenizer knows, of every one of two letters, and of such after a hyphen."""
    known = sorted(spacy.blank("en").tokenizer.rules)
    short = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    words = [*known, *(f"x-{word}" for word in known), *short, *map(str.capitalize, short)]
    texts = [f"The dog saw {word}{mark} Then it went." for word in words for mark in (".", "!", "?", "")]
    found, expected = both_ways(texts)
    assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=20).map("".join), min_size=20, max_size=20))
def test_odd_lines_are_split_as_if_spacy_got_them_whole(texts: list[str]) -> None:
    found, expected = both_ways(texts)
    assert found == expected


def test_ordinary_prose_is_split_without_spacy():
    rendered = [
        text for number in range(20) for text in captions(training_scene(0, number), generator(0, TRAIN, number, WORDS))
    ]
    before = asked_of_spacy()
    found, expected = both_ways(rendered)
    assert found == expected and sum(map(len, found)) > len(rendered)
    many_spans(rendered, "spacy")
    assert asked_of_spacy() == before
    assert split("He saw Dr. Smith there. He left.", "spacy") == ["He saw Dr. Smith there.", "He left."]
    assert asked_of_spacy() == before + len("Dr. Smith")


def test_the_committed_words_and_marks_are_those_of_the_spacy_that_is_installed():
    """All that the fast path asks the tokenizer's words for: one in plain letters, and one with its stop."""
    known = spacy.blank("en").tokenizer.rules
    asked = {
        word for word in known if word.isascii() and (word.isalpha() or (word[:-1].isalpha() and word[-1] in ".!?"))
    }
    assert asked == spacy_words.WORDS and len(asked) > 400
    assert sorted(Rule.default_punct_chars) == sorted(spacy_words.MARKS)
    assert (ROOT / "caft/captions/spacy_words.py").read_text() == written.source()


@pytest.fixture
def anew(monkeypatch):
    """Sentences by a sentencizer of the test's own."""
    sentences._sentencizer.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    sentences._sentencizer.cache_clear()


def test_of_another_spacy_its_own_words_and_marks_are_taken(anew):
    texts = [*PROSE, *(text for text, _ in [*HARD, *WIDE])]
    expected = many_spans(texts, "spacy")
    sentences._sentencizer.cache_clear()
    anew.setattr(spacy_words, "SPACY", "3.0.0")
    anew.setattr(spacy_words, "WORDS", frozenset({"mat", "mat."}))
    anew.setattr(spacy_words, "MARKS", "!")
    assert many_spans(texts, "spacy") == expected
    assert sentences._sentencizer()._words == frozenset(spacy.blank("en").tokenizer.rules)
    before = asked_of_spacy()
    many_spans(["A cat on a mat. It sleeps."], "spacy")
    assert asked_of_spacy() == before


def test_a_spacy_that_cannot_be_imported_is_said_once_and_not_missed_where_it_is_not_asked(anew, caplog):
    anew.setitem(sys.modules, "spacy.pipeline", None)  # as if a part of it were missing
    assert split("A cat on a mat. It sleeps.", "spacy") == ["A cat on a mat.", "It sleeps."]
    assert not caplog.text
    for _ in range(2):
        assert split("He saw Dr. Smith there. He left.", "spacy") == ["He saw Dr. Smith there.", "He left."]
    assert caplog.text.count("spacy.pipeline") == caplog.text.count("pip install spacy") == 1


def test_an_unknown_splitter_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of spacy, dreamlip"):
        split("A cat.", "nltk")  # type: ignore[arg-type]


PROSE = [
    'Mr. Smith holds a No. 5 sign. It reads "Stop!" The man (tall) waits... Then he goes.',
    "A U.S. flag at 3.5 m. e.g. this one. It is 10 a.m. now. Really?! Yes.",
    "Plan B. is here. The dog said: \u201cHi.\u201d Then it left… It ran.",
    "He lives on St. John street vs. Dr. Jones. OK.",
    "1. A cat. 2. A dog.",
    "The sign says 'No.' It is red.",
    "A cat.Then a dog. Two of x.y stay.",
    "Wow!!! Great (really.) Yes.",
    'It ends with "Yes." "No." he said.',
]


def test_without_spacy_a_plain_rule_finds_the_same_sentences_of_prose(monkeypatch, caplog):
    scenes = [training_scene(0, number) for number in range(100)]
    rendered = [
        text for number, scene in enumerate(scenes) for text in captions(scene, generator(0, TRAIN, number, WORDS))
    ]
    texts = [*PROSE, *(text for text, _ in [*HARD, *WIDE]), *rendered]
    with_spacy = many_spans(texts, "spacy")
    assert sum(map(len, with_spacy)) > 2 * len(texts)
    sentences._sentencizer.cache_clear()
    sentences._warn_without_spacy.cache_clear()  # another test of this process may have been warned
    monkeypatch.setitem(sys.modules, "spacy", None)  # as if it were not installed
    try:
        assert many_spans(texts, "spacy") == with_spacy
        many_spans(texts, "spacy")
        assert caplog.text.count("spaCy is not installed") == 1
    finally:
        sentences._sentencizer.cache_clear()


# Of a length at which what grew by the square of it, or for a row of stops by a power, took many seconds.
ENDLESS = {
    "stops": ("A cat" + "." * 42 + " It purrs. End.", ["A cat" + "." * 42 + " It purrs.", "End."]),
    "marks": ("A cat" + "!?" * 3000 + " It purrs. End.", ["A cat" + "!?" * 3000, "It purrs.", "End."]),
    "quotes": ('A "' + '"' * 6000 + "cat. It purrs.", ['A "' + '"' * 6000 + "cat.", "It purrs."]),
    "blanks": ("A cat." + " " * 40_000 + '"It purrs. End."', ["A cat.", '"It purrs.', 'End."']),
    "letters": ("A " + "x" * 131_000 + ". End.", ["A " + "x" * 131_000 + ".", "End."]),
    "lines": ("A b.\n" * 26_000, ["A b."] * 26_000),
    "wide": ("。」" * 10_000 + " End.", ["。」"] * 10_000 + ["End."]),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_one_odd_caption_is_split_as_any_other_and_in_no_time(kind: str) -> None:
    text, expected = ENDLESS[kind]
    split("A cat. A dog.")  # loads spaCy
    begun = time.process_time()
    assert split(text) == expected
    assert time.process_time() - begun < 2
