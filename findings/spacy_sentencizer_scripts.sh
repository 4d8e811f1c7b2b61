#!/usr/bin/env bash
# spaCy 3.8.18 on Python 3.11.
# Guess: the sentencizer ends a sentence at each of its `punct_chars`, which hold the full stops of Chinese, Hindi and Arabic,
#        in the blank pipelines `en` and `xx`; and the pipeline `zh` reads Latin script as `en` does.
# Seen:  it looks at whole tokens. In `en` and `xx` the full stops of Hindi and Arabic end sentences, but the Chinese one only
#        before a space, so a Chinese or Japanese text is one sentence. In `zh`, where each character is a token, Chinese is
#        right, and "3.5" and "U.S." are cut at every point. No one pipeline is right for a corpus in several scripts.
# Here:  `caft.captions.sentences` cuts behind such marks by itself, before it asks the English pipeline.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet spacy==3.8.18
cat > "$work/sentences.py" <<'P'
import spacy

texts = {"Chinese": "一只猫。一只狗！好吗？", "Hindi": "यह बिल्ली है। यह कुत्ता है।", "Arabic": "قطة۔ كلب؟", "English": "It costs 3.5 dollars in the U.S. today. A cat."}
right = {"Chinese": 3, "Hindi": 2, "Arabic": 2, "English": 2}
found = {}
for name in ("en", "xx", "zh"):
    language = spacy.blank(name)
    sentencizer = language.add_pipe("sentencizer")
    assert all(mark in sentencizer.punct_chars for mark in "。！？।۔؟.")
    found[name] = {script: len(list(language(text).sents)) for script, text in texts.items()}
print(spacy.__version__, "right:", right, "found:", found)
assert found["en"] == found["xx"] == {**right, "Chinese": 1}
assert found["zh"] == {**right, "English": 5}
P
"$work/env/bin/python" "$work/sentences.py"
