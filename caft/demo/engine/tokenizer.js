// CLIP's byte pairs, as caft.captions.tokenizer.
const START = 49406, END = 49407;
const PIECE = new RegExp(
  `<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^${SPACE}\\p{L}\\p{N}]+`, "giu",
);
const WORD_END = "</w>";

/** A printable character for each byte, in the order of their ids: printable ones stand for themselves. */
function byteLetters() {
  const printable = [[0x21, 0x7e], [0xa1, 0xac], [0xae, 0xff]].flatMap(([first, last]) =>
    Array.from({length: last - first + 1}, (_, place) => first + place));
  const others = Array.from({length: 256}, (_, byte) => byte).filter(byte => !printable.includes(byte));
  return new Map([...printable.map(byte => [byte, String.fromCharCode(byte)]),
    ...others.map((byte, place) => [byte, String.fromCharCode(256 + place)])]);
}

class Tokenizer {
  /** Takes the pairs by rank, one a line, "left right". */
  constructor(merges) {
    const lines = merges.split("\n");
    this.letters = byteLetters();
    this.rank = new Map(lines.map((line, place) => [line, place]));
    const single = [...this.letters.values()];
    const tokens = [...single, ...single.map(letter => letter + WORD_END), ...lines.map(line => line.replace(" ", ""))];
    if (tokens.length !== START) throw new Error(`the vocabulary has ${lines.length} pairs, expected ${START - 512}`);
    this.ids = new Map(tokens.map((token, id) => [token, id]));
    this.known = new Map([["<start_of_text>", [START]], ["<end_of_text>", [END]]]);
    this.bytes = new TextEncoder();
  }

  /** Ids of a text without start and end. */
  encode(text) {
    return (clean(text).match(PIECE) ?? []).flatMap(word => this.word(word));
  }

  /** Ids with start and end, at most `context`: a longer text is cut, and its last id becomes the end. */
  framed(text, context) {
    return [START, ...this.encode(text).slice(0, context - 2), END];
  }

  word(word) {
    let ids = this.known.get(word);
    if (ids === undefined) {
      const parts = Array.from(this.bytes.encode(word), byte => this.letters.get(byte));
      parts[parts.length - 1] += WORD_END;
      ids = this.joined(parts).map(part => this.ids.get(part));
      this.known.set(word, ids);
    }
    return ids;
  }

  /** Joins the pair of the lowest rank, everywhere at once, until none is left. */
  joined(parts) {
    for (;;) {
      let best = Infinity, pair = -1;
      for (let at = 0; at + 1 < parts.length; at++) {
        const rank = this.rank.get(parts[at] + " " + parts[at + 1]);
        if (rank < best) [best, pair] = [rank, at];
      }
      if (pair < 0) return parts;
      const [left, right] = [parts[pair], parts[pair + 1]], next = [];
      for (let at = 0; at < parts.length; at++) {
        const isPair = parts[at] === left && parts[at + 1] === right;
        next.push(isPair ? left + right : parts[at]);
        if (isPair) at++;
      }
      parts = next;
    }
  }
}
