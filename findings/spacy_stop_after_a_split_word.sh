#!/usr/bin/env bash
# spaCy 3.8.18 on Python 3.11.
# Guess: the English tokenizer cuts the stop off a word in plain letters, unless the two are one of its exceptions ("Prof.",
#        "x."), so that in "The dog saw WORD. Then it went." the sentencizer finds an end after every other word.
# Seen:  not after a word that an exception splits ("Thats" into "That" and "s"), nor after a last part of one letter behind a
#        hyphen ("x-y."): once all is split, pieces that together are an exception are joined again, here "s." and "y.", and
#        a stop inside of a token ends nothing. So "Thats." and "Hed." do not end a sentence, "Cats." and "Bed." do.
# Here:  `caft.captions.sentencizer` decides for itself only about words of which none of this is true.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet spacy==3.8.18
cat > "$work/stops.py" <<'P'
import spacy

language = spacy.blank("en")
language.add_pipe("sentencizer")


def ends(word):
    return len(list(language(f"The dog saw {word}. Then it went.").sents)) == 2


words = ["Cats", "Bed", "thing", "t-shirt", "Prof", "x", "Thats", "Hed", "Itd", "x-y"]
found = {word: ends(word) for word in words}
print(spacy.__version__, found)
for word in ("Thats", "x-y"):
    print([token.text for token in language(f"{word}. Then")])
exceptions = language.tokenizer.rules
assert "Prof." in exceptions and "x." in exceptions
assert not {"Thats.", "Hed.", "Itd.", "x-y."} & set(exceptions)
assert found == {**dict.fromkeys(words, False), **dict.fromkeys(["Cats", "Bed", "thing", "t-shirt"], True)}
assert [token.text for token in language("Thats. Then")] == ["That", "s.", "Then"]
P
"$work/env/bin/python" "$work/stops.py"
