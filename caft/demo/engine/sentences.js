// Sentences and chunks of a caption, as caft.captions.sentences and .chunking. For the splitter "spacy" it is the rule that
// stands in where spaCy is not installed: the same for ordinary prose, perhaps not after rare abbreviations.
const LINE = "[\\n\\r\\v\\f\\x85\\u2028\\u2029]";
const HARD_BREAK = new RegExp(`${LINE}|</s>`, "gu");
const DREAMLIP_BREAK = new RegExp(`${LINE}|</s>|\\.`, "gu");
const WIDE_CLOSING = "[」』）】》〉”’)\\]]";
const WIDE_END = new RegExp(
  "(?:[。｡।॥؟۔။።]|(?<=[^\\x00-\\x7f])[！？]|[！？](?=[^\\x00-\\x7f]))[。｡।॥؟۔။።！？…]*"
    + `(?:${WIDE_CLOSING}+(?!${WIDE_CLOSING}|と|って)|(?!${WIDE_CLOSING}))`,
  "gu",
);
const MARKS = ".!?…։؟۔।॥｡。！？", OPENING = "\"'“‘([{*#";
const ABBREVIATIONS = [
  "[A-Za-z]", "Mr", "Ms", "Dr", "St", "Jr", "vs", "Co", "Mrs", "Inc", "Ltd", "Gen", "Sen", "Rev", "Prof",
].map(word => `(?<!(?<![${WORD_LETTER}])${word}\\.)`).join("");
const BREAK = new RegExp(
  `(?<=[${MARKS}])${ABBREVIATIONS}(["'”’)\\]\\}*]*)`
    + `(?:[${SPACE}]+|$|(?<=…)(?=[${WORD_LETTER}])|(?<=[a-z]\\.)(?=[A-Z]))`,
  "gu",
);
const FRAGMENT = 3; // a piece as short is not a sentence: closing quotes, or the number of a list's entry
const JOINERS = {spacy: " ", dreamlip: ". "};

/** Start and end of each sentence, in UTF-16 units; none is empty or has white space at either end. */
function spans(text, splitter) {
  if (splitter === "dreamlip") return stripped(text, between(text, DREAMLIP_BREAK));
  return stripped(text, widePieces(text)).flatMap(line => cured(text, plainPieces(text, ...line)));
}

function between(text, pattern) {
  const found = [];
  let start = 0;
  for (const match of text.matchAll(pattern)) {
    found.push([start, match.index]);
    start = match.index + match[0].length;
  }
  return [...found, [start, text.length]];
}

/** Lines, also cut after ends in scripts that put no white space there. */
function widePieces(text) {
  const found = [];
  for (let [start, end] of between(text, HARD_BREAK)) {
    const until = text.slice(0, end);
    WIDE_END.lastIndex = start;
    for (let match; (match = WIDE_END.exec(until)); ) {
      found.push([start, WIDE_END.lastIndex]);
      start = WIDE_END.lastIndex;
    }
    found.push([start, end]);
  }
  return found;
}

function plainPieces(text, start, end) {
  const line = text.slice(start, end);
  if (![...withoutEnd(line, MARKS)].some(character => MARKS.includes(character))) return [[start, end]];
  const ends = [...line.matchAll(BREAK)].map(match => start + match.index + match[1].length);
  return [start, ...ends].map((from, place) => [from, [...ends, end][place]]);
}

/** Without the characters of a set at its end. */
function withoutEnd(text, set) {
  let end = text.length;
  while (end && set.includes(text[end - 1])) end--;
  return text.slice(0, end);
}

function stripped(text, found) {
  return found.flatMap(([start, end]) => {
    const piece = text.slice(start, end);
    start += piece.length - stripLeft(piece).length;
    end = start + strip(piece).length;
    return end > start ? [[start, end]] : [];
  });
}

/** The sentences of one line without cheap mistakes: quotes and numbers go where they belong, fragments to what is before. */
function cured(text, found) {
  found = stripped(text, found);
  if (!found.length) return [];
  const firstLetter = /\p{L}/u.exec(text.slice(found[0][0], found.at(-1)[1]))?.[0] ?? "";
  const caseTells = /\p{Uppercase}/u.test(firstLetter);
  const result = [];
  let opening = null; // start of what belongs to the next sentence
  found.forEach(([start, end], place) => {
    if (opening !== null) [start, opening] = [opening, null];
    const last = place === found.length - 1;
    const kept = withoutEnd(text.slice(start, end), OPENING);
    if (!last && found[place + 1][0] === end && kept.length < end - start && kept && !strip(kept.slice(-1))) {
      opening = start + kept.length;
      end = start + stripRight(kept).length;
    }
    const piece = text.slice(start, end), first = String.fromCodePoint(piece.codePointAt(0));
    const short = [...piece].length <= FRAGMENT;
    if (short && /[\p{L}\p{N}]/u.test(first) && !last) {
      opening = start;
      return;
    }
    const goesOn = short || (caseTells && /\p{Lowercase}/u.test(first));
    const before = result.at(-1);
    if (before && (goesOn || (/[\p{Nd}²³¹⁰⁴-⁹₀-₉]/u.test(first) && text.slice(0, before[1]).endsWith("No.")))) before[1] = end;
    else result.push([start, end]);
  });
  return result;
}

/** Sentence numbers of each chunk: consecutive, of nearly equal size; fewer sentences than chunks repeat in a cycle. */
function balancedChunks(sentences, chunks, rule) {
  if (sentences < chunks) return Array.from({length: chunks}, (_, chunk) => [chunk % sentences]);
  const size = Math.floor(sentences / chunks), extra = sentences % chunks;
  const sizes = Array.from({length: chunks}, (_, chunk) => size + (chunk < extra));
  if (rule === "release" && sentences > 3 * chunks) sizes.fill(3).splice(-1, 1, sentences - 3 * (chunks - 1));
  let start = 0;
  return sizes.map(count => Array.from({length: count}, () => start++));
}
