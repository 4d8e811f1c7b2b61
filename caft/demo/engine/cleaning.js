// A text as CLIP's tokenizer takes it, as caft.captions.tokenizer.clean: of ftfy's repairs all but one, that of text which
// was decoded by the wrong table ("cafÃ©"). Its rules are larger than this engine, which only tells such text.
const LIGATURES = new Map(Object.entries({
  "Ĳ": "IJ", "ĳ": "ij", "ŉ": "ʼn", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž",
  "Ǉ": "LJ", "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj",
  "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st",
}));
// Python writes parts of the engine: ENTITIES, HTML's table of names, since a worker has no parser to ask, and MISREAD, the
// pattern by which ftfy tells text to repair; its classes of letters and spaces are Python's.
const MISREAD_TEXT = new RegExp(MISREAD.replaceAll("\\w", `[${WORD_LETTER}]`).replaceAll("\\s", `[${SPACE}]`), "u");
const WINDOWS = new TextDecoder("windows-1252");

/** Repairs Unicode, resolves HTML entities, collapses white space, lowers case. */
function clean(text) {
  if (!/^[ -%'-~]*$/.test(text)) text = unescaped(unescaped(repaired(text)));
  return strip(text).replace(SPACES, " ").toLowerCase();
}

/** Whether ftfy would look for the table by which a text was meant to be decoded; mostly it finds one, and changes the text. */
function misread(text) {
  let found = false;
  repaired(text, line => { found ||= MISREAD_TEXT.test(line); });
  return found;
}

/** As ftfy.fix_text, line by line; from a line with "<" on, entities are left to who reads the tags. */
function repaired(text, look = () => {}) {
  let entities = true;
  return (text.match(/[^\n]*\n|[^\n]+$/g) ?? []).map(line => {
    entities &&= !line.includes("<");
    for (;;) {
      const before = line;
      if (entities) line = line.replace(/&#?[0-9A-Za-z]{1,24};/g, certainEntity);
      look(line); // here ftfy repairs what was misread
      line = line
        .replace(/[\x80-\x9f]/g, control => WINDOWS.decode(Uint8Array.of(control.charCodeAt(0))))
        .replace(/[Ĳĳŉ\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06]/g, ligature => LIGATURES.get(ligature))
        .replace(/[\uff01-\uffef]/g, wide => wide.normalize("NFKC")).replaceAll("\u3000", " ")
        .replace(/[\u201c-\u201f]/g, '"').replace(/[\u02bc\u2018-\u201b]/g, "'")
        .replace(/\r\n|[\r\u2028\u2029\x85]/g, "\n")
        .replace(/\x1b\[[\d;]*[a-zA-Z]/g, "")
        .replace(/[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, "")
        .normalize("NFC");
      if (line === before) return line;
    }
  }).join("");
}

/** An entity that ends in a semicolon and is one as it stands, or else in lower case; no other text is changed. */
function certainEntity(text) {
  if (text[1] === "#") return unescaped(text).includes(";") ? text : unescaped(text);
  const isUpper = text === text.toUpperCase() && named(text) === text;
  return ENTITIES[text.slice(1)] ?? (isUpper ? ENTITIES[text.slice(1).toLowerCase()]?.toUpperCase() : undefined) ?? text;
}

/** As Python's html.unescape. */
const unescaped = text => text.replace(/&(?:#([0-9]+);?|#[xX]([0-9a-fA-F]+);?|[^\t\n\f <&#;]{1,32};?)/gu, (all, decimal, hex) => {
  if (decimal === undefined && hex === undefined) return named(all);
  const code = decimal === undefined ? parseInt(hex, 16) : parseInt(decimal, 10);
  if (code >= 0x80 && code <= 0x9f) return WINDOWS.decode(Uint8Array.of(code));
  if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
  const isControl = code < 9 || code === 0xb || (code >= 0xe && code < 0x20) || code === 0x7f;
  return isControl || (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) === 0xfffe ? "" : String.fromCodePoint(code);
});

/** The longest beginning that is a name, which without its semicolon only some are, and what is left. */
function named(text) {
  for (let end = text.length; end > 2; end--) {
    const found = ENTITIES[text.slice(1, end)];
    if (found !== undefined) return found + text.slice(end);
  }
  return text;
}
