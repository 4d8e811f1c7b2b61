// The model: what a page calls. All of it is synchronous but `Caft.unpack`. Lengths: S image side, D embedding, N segments of
// the part level, T texts, M chunks of a caption.
const PART_WEIGHT = 0.3; // of CAFT++, as Model.similarity
const MOST_READ = 1000; // sentences that are remembered

class Model {
  constructor(card, bytes, vocabulary) {
    requireStructure(card);
    this.card = card;
    this.sizes = card.model;
    this.weights = new Weights(bytes);
    this.tokenizer = new Tokenizer(vocabulary);
    this.known = new Map(); // features of sentences
    this.size = this.sizes.image_size; // S
    this.stages = this.sizes.tokens; // segments of each stage, fine to coarse
    this.partStage = this.sizes.part_stage - 1; // place of the part level's stage in them
    this.partWeight = PART_WEIGHT;
    this.scales = {whole: Math.exp(this.weights.number("whole_log_scale")), part: Math.exp(this.weights.number("part_log_scale"))};
    this.partBias = this.weights.number("part_bias");
  }

  /** Sentences of a text that have a word, as Model.sentences. Throws if there is none. */
  split(text) {
    requireWords(text);
    const found = spans(text, this.card.splitter).map(span => text.slice(...span));
    return found.filter(sentence => unreadable(sentence) === null);
  }

  /**
   * Encodes a picture, RGB bytes (S, S, 3): features {whole (D), segments (N, D)}, nested {labels}, each (S, S), and {picks}.
   * Of Caft.squash for maps, of Caft.centre for scores, as in Python.
   */
  see(rgb) {
    if (rgb.length !== 3 * this.size ** 2) {
      throw new Error(`a picture of ${rgb.length} bytes, expected ${3 * this.size ** 2}: RGB of side ${this.size}`);
    }
    return encodeImage(this.weights, this.sizes, rgb);
  }

  /** Encodes sentences, each as one text: {texts (T, D), for the part level; features (T, W)}. What was read before is known. */
  read(sentences) {
    const {width} = this.sizes.text, features = new Float32Array(sentences.length * width);
    sentences.forEach((sentence, place) => features.set(this.#feature(sentence), place * width));
    return {texts: projectSubCaptions(this.weights, features), features};
  }

  /**
   * Encodes a long caption: {whole (D); chunks, M strings; texts (M, D); sentences, numbers of each chunk's; spoken, the
   * sentences; alone (sentences, D)}.
   */
  caption(text) {
    requireWords(text);
    const {splitter, chunks: count, balanced_rule: rule} = this.card;
    const spoken = spans(text, splitter).map(span => text.slice(...span));
    const sentences = balancedChunks(spoken.length, count, rule);
    const chunks = sentences.map(group => group.map(number => spoken[number]).join(JOINERS[splitter]));
    const {texts, features} = this.read(chunks);
    const whole = encodeWholeCaption(this.weights, this.sizes, features);
    return {whole, chunks, texts, sentences, spoken, alone: this.read(spoken).texts};
  }

  /**
   * Where each of some texts (T, D) looks in a picture, and whether it bears them out, as Model.look: {map (S, S), attention
   * (N), logit, probability, percentile among the reference sentences, borneOut}.
   */
  look(picture, texts) {
    const logit = cosine => this.scales.part * cosine + this.partBias;
    picture.others ??= this.#asked(picture, this.weights.numbers("references")).map(({cosine}) => logit(cosine));
    return this.#asked(picture, texts).map(({cosine, attention}) => {
      const map = Float32Array.from(picture.labels[this.partStage], label => attention[label]);
      return {map, attention, ...match(logit(cosine), picture.others)};
    });
  }

  /** Foreground of a map (S, S), 1 or 0, at the picture's height and width, as masks of Model.ground; at S x S without them. */
  mask(map, height = this.size, width = this.size) {
    return otsuMask(enlarged(map, this.size, height, width));
  }

  /**
   * Scores a picture with a caption, as Model.similarity and caft.model.shares: {both, CAFT++; whole and part, the logits it is
   * made of, less biases; wholeShare; shares of chunks, [{chunk, part, share}]; sentences, [{text, chunks, part, share}]}.
   * The shares of chunks add up to `both` with `wholeShare`, and so do those of sentences.
   */
  score(picture, caption) {
    const logits = texts => this.#asked(picture, texts).map(({cosine}) => this.scales.part * cosine);
    const ofChunks = logits(caption.texts), alone = logits(caption.alone), count = ofChunks.length;
    const whole = this.scales.whole * dot(picture.whole, caption.whole);
    const part = ofChunks.reduce((total, logit) => total + logit / count, 0);
    const wholeShare = (1 - PART_WEIGHT) * whole;
    const byChunk = ofChunks.map((logit, chunk) => ({chunk: caption.chunks[chunk], part: logit, share: (PART_WEIGHT * logit) / count}));
    const ofSentences = sentenceShares(caption.sentences, ofChunks, alone, PART_WEIGHT);
    const sentences = caption.spoken.map((text, number) => ({
      text,
      chunks: caption.sentences.flatMap((group, chunk) => (group.includes(number) ? [chunk] : [])),
      part: alone[number],
      share: ofSentences[number],
    }));
    return {whole, part, both: wholeShare + PART_WEIGHT * part, wholeShare, shares: byChunk, sentences};
  }

  #asked(picture, texts) {
    const dim = this.sizes.embed_dim;
    picture.prepared ??= preparedSegments(this.weights, picture.segments);
    return Array.from({length: texts.length / dim}, (_, text) =>
      ask(this.weights, this.sizes.grounding.heads, picture.prepared, texts.slice(text * dim, (text + 1) * dim)));
  }

  #feature(sentence) {
    let found = this.known.get(sentence);
    if (found === undefined) {
      found = encodeSubCaption(this.weights, this.sizes, this.tokenizer.framed(sentence, this.sizes.text.context));
      if (this.known.size === MOST_READ) this.known.clear();
      this.known.set(sentence, found);
    }
    return found;
  }
}

/** Refuses a model of another structure than `tiny`'s, which is also `base`'s. */
function requireStructure(card) {
  const sizes = card.model;
  if (!sizes) throw new Error("the card has no sizes (key model); give the card that came with the weights");
  const lacking = [
    [sizes.superpixels && sizes.stem, "superpixels"], [sizes.grounding, "part level"],
    [sizes.levels === "separate", "levels of their own"], [sizes.text.whole_layers && sizes.text.adapter, "whole-caption transformer"],
  ].filter(([there]) => !there).map(([, name]) => name);
  if (lacking.length) {
    throw new Error(`the model has no ${lacking.join(" and no ")}; in a page runs the structure of tiny and base alone`);
  }
}

const Caft = {
  /**
   * Makes a model of its card, its weights as bytes of a safetensors file, and CLIP's pairs by rank, one a line. Among the
   * weights is what the part level compares of the reference sentences, (R, D), as `references`.
   */
  open: ({card, weights, vocabulary}) => new Model(card, weights, vocabulary),
  unpack,
  squash,
  centre,
  enlarged,
  misread,
};
