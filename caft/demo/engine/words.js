// What Python calls white space, letters and words; JavaScript's own classes differ (U+001C to U+001F, U+0085, U+FEFF).
const SPACE = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const WORD_LETTER = "\\p{L}\\p{N}_";
const LEADING_SPACE = new RegExp(`^[${SPACE}]+`, "u");
const TRAILING_SPACE = new RegExp(`[${SPACE}]+$`, "u");
const SPACES = new RegExp(`[${SPACE}]+`, "gu");

const stripLeft = text => text.replace(LEADING_SPACE, "");
const stripRight = text => {
  // Not by the pattern alone: in a long row of spaces that is not at the end it would begin anew at each of them.
  let end = text.length;
  while (end && TRAILING_SPACE.test(text[end - 1])) end--;
  return text.slice(0, end);
};
const strip = text => stripRight(stripLeft(text));

// A tag of HTML with its attributes: what else stands between such brackets is read as words.
const TAG = new RegExp(
  `</?[a-z][a-z0-9]*(?:[${SPACE}]+[${WORD_LETTER}\\-]+[${SPACE}]*=[${SPACE}]*`
    + `(?:"[^"]*"|'[^']*'|[^${SPACE}<>"']+))*[${SPACE}]*/?>`,
  "giu",
);

/** What is wrong with a text, or null where it has a word: a letter, a digit or a pictograph outside of tags. */
function unreadable(text) {
  if (!strip(text)) return "is empty";
  if (!text.isWellFormed()) return "is no valid Unicode";
  const untagged = text.replace(TAG, " ");
  const hasWord = ([start, end]) => /[\p{L}\p{N}\p{So}]/u.test(clean(untagged.slice(start, end)));
  if (spans(untagged, "dreamlip").some(hasWord)) return null;
  return "has no word";
}

/** Refuses a text that no sentence can be read from. */
function requireWords(text) {
  const why = unreadable(text);
  if (why === null) return;
  const shown = text.length <= 40 ? text : text.slice(0, 37) + "...";
  throw new Error(
    why === "is no valid Unicode"
      ? `the text '${shown}' is no valid Unicode; type it anew`
      : `the text '${shown}' has no sentence; give words to look for`,
  );
}
