#!/usr/bin/env bash
# transformers 4.57.3 (with ftfy 6.3.1) and 5.24.0 on Python 3.11; the vocabulary is that in the wheel of open_clip_torch 3.3.0.
# Guess: `CLIPTokenizer` gives the same tokens in both, as OpenAI's and open_clip's, since its files are the same.
# Seen:  the class of 4 repaired texts by ftfy; the one of 5 has no such step. A curly apostrophe or quote is then two rare tokens
#        in place of one common one, "it's" is torn apart, and ligatures and wide letters are bytes. 30 % of the captions of
#        ImageInWords (183 of 612) get other tokens than in open_clip. No warning.
# Here:  captions are read by open_clip's rule (caft/captions/tokenizer.py), compared with open_clip's own tokenizer.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --no-deps --target "$work/open_clip" open_clip_torch==3.3.0
cat > "$work/quotes.py" <<'P'
import gzip
import json
import os
import sys
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
work = Path(sys.argv[1])
lines = gzip.open(work / "open_clip/open_clip/bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")
merges = lines[1 : 49152 - 256 - 2 + 1]
printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
letters = [chr(byte) for byte in printed] + [chr(256 + place) for place in range(256 - len(printed))]
names = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
names += ["<|startoftext|>", "<|endoftext|>"]
(work / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
(work / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
import transformers

if transformers.__version__ < "5":
    tokenizer = transformers.CLIPTokenizer(str(work / "vocab.json"), str(work / "merges.txt"))
else:
    pairs = [tuple(merge.split()) for merge in merges]
    tokenizer = transformers.CLIPTokenizer(vocab=json.loads((work / "vocab.json").read_text()), merges=pairs)
texts = ("a dog's bone", "a dog\u2019s bone", "\u201cstop\u201d", "\ufb01re")
found = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts}
print(transformers.__version__, found)
as_open_clip = {texts[0]: [320, 1929, 568, 6195], texts[1]: [320, 1929, 568, 6195], texts[2]: [257, 1691, 257], texts[3]: [1769]}
differ = [text for text in texts if found[text] != as_open_clip[text]]
assert differ == ([] if transformers.__version__ < "5" else list(texts[1:])), differ
P
for version in 4.57.3 5.24.0; do
  "$work/env/bin/pip" install --quiet "transformers==$version" ftfy==6.3.1 numpy==2.3.5
  "$work/env/bin/python" "$work/quotes.py" "$work"
done
