// The model's side of the page, in a worker, so that the page stays responsive: answers to {id, kind, ...} by {id, answer}.

const SHOWN = 6; // pictures that a search finds
const SLICE = 60; // milliseconds of a search after which other questions are answered

let model, gallery = [];
let whole, cropped, mapSize; // the picture squashed, as maps see it, and cropped, as scores do; height and width of its maps
let searches = 0;

const JOBS = {
  async open({parts, features, pictures}) {
    model = Caft.open(await Caft.unpack(JSON.parse(parts)));
    if (pictures) gallery = stored(await inflated(features), pictures, model.sizes.embed_dim);
    return {size: model.size, counts: model.stages};
  },

  see({rgba, width, height, mapHeight, mapWidth}) {
    whole = model.see(Caft.squash(rgba, width, height, model.size));
    cropped = width === height ? whole : model.see(Caft.centre(rgba, width, height, model.size));
    mapSize = [mapHeight, mapWidth];
    return {labels: whole.labels};
  },

  // For each sentence where it looks, whether the picture bears it out, and what it adds to CAFT++.
  ask({caption}) {
    const begun = performance.now(), texts = sentencesOf(caption);
    if (!texts.length) return {sentences: []};
    const looks = model.look(whole, model.read(texts).texts), asked = model.caption(caption);
    const score = model.score(cropped, asked), misread = [...asked.chunks, ...asked.spoken].some(Caft.misread);
    const sentences = texts.map((text, place) => ({
      text, ...looks[place], ...worth(score, text), height: mapSize[0], width: mapSize[1],
      map: Caft.enlarged(looks[place].map, model.size, ...mapSize), mask: model.mask(looks[place].map, ...mapSize),
    }));
    return {sentences, both: score.both, wholeShare: score.wholeShare, misread, milliseconds: performance.now() - begun};
  },

  // The pictures that fit a caption best, and which sentence decided between each and the first, or the first and the second.
  async search({caption, own}) {
    const turn = ++searches, texts = sentencesOf(caption);
    if (!texts.length || !gallery.length) return null;
    const asked = model.caption(caption), scores = new Float64Array(gallery.length);
    const unshared = {...asked, alone: [], spoken: [], sentences: []}; // for the order no shares are needed
    let begun = performance.now();
    for (let place = 0; place < gallery.length; place++) {
      scores[place] = model.score(gallery[place], unshared).both;
      if (performance.now() - begun > SLICE) {
        await new Promise(resume => setTimeout(resume));
        if (turn !== searches) return undefined; // another question has come
        begun = performance.now();
      }
    }
    const order = Array.from(scores.keys()).sort((one, other) => scores[other] - scores[one] || one - other);
    const best = order.slice(0, SHOWN).map(place => ({place, ...model.score(gallery[place], asked)}));
    const results = best.map(({place, both}, rank) => ({
      place, both, reason: best.length > 1 ? decided(best[rank], best[rank ? 0 : 1], rank === 0) : null,
    }));
    return {results, pictures: gallery.length, rank: own === null ? null : order.indexOf(own) + 1};
  },
};

function sentencesOf(caption) {
  try {
    return model.split(caption);
  } catch {
    return []; // it has no word yet
  }
}

// Part score and share of a sentence.
function worth(score, text) {
  const same = score.sentences.filter(sentence => sentence.text === text); // one that stands twice counts with both shares
  return {part: same[0].part, share: same.reduce((sum, {share}) => sum + share, 0) / same.length};
}

// The sentence that most put a picture before another, or behind it.
function decided(one, other, isAhead) {
  const sign = isAhead ? 1 : -1, gains = one.sentences.map(({share}, place) => share - other.sentences[place].share);
  const first = gains.reduce((best, gain, place) => (sign * gain > sign * gains[best] ? place : best), 0);
  return {
    number: first + 1, text: one.sentences[first].text, gain: gains[first],
    ofWhole: one.wholeShare - other.wholeShare, total: one.both - other.both,
  };
}

// ---- pictures that the page holds

async function inflated(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Of each picture its whole-level feature in float32, then its segments in half precision.
function stored(bytes, pictures, dim) {
  const length = bytes.length / pictures;
  return Array.from({length: pictures}, (_, place) => {
    const one = bytes.slice(place * length, (place + 1) * length).buffer;
    return {whole: new Float32Array(one, 0, dim), segments: Float32Array.from(new Uint16Array(one, 4 * dim), half)};
  });
}

// The number that sixteen bits stand for.
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 0x1f, rest = bits & 0x3ff;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : (2 ** -14 * rest) / 1024);
}

self.onmessage = async ({data: {id, kind, ...content}}) => {
  try {
    const answer = await JOBS[kind](content);
    // Maps and masks of a long caption are megabytes: they are moved, not copied.
    self.postMessage({id, answer}, kind === "ask" ? answer.sentences.flatMap(({map, mask}) => [map.buffer, mask.buffer]) : []);
  } catch (error) {
    self.postMessage({id, error: error.message});
  }
};
