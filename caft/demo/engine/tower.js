// The image tower: superpixel tokens, then ever fewer segments, as caft.network.vision.
const MEAN = [0.48145466, 0.4578275, 0.40821073], DEVIATION = [0.26862954, 0.26130258, 0.27577711];
const IMAGE_EPS = 1e-6, SIMILARITY_SCALE = 5;

/** Encodes RGB bytes (S, S, 3): features, nested label maps (fine to coarse), and the seeds of each grouping. */
function encodeImage(weights, sizes, rgb) {
  const {image_size: side, width, heads, tokens: counts} = sizes;
  const superpixelOf = superpixels(weights, rgb, side, sizes.superpixels.cell);
  const grid = stem(weights, sizes, planes(rgb, side, MEAN, DEVIATION)), stride = side / grid.side;
  const features = sum(transposed(grid.data, width, grid.side ** 2), sinCosPositions(grid.side, width));
  const seen = Int32Array.from({length: grid.side ** 2}, (_, place) =>
    superpixelOf[Math.floor(place / grid.side) * stride * side + (place % grid.side) * stride]);
  let {tokens, empty} = superpixelTokens(features, seen, counts[0], width);
  let cls = weights.numbers("vision.cls"), segments = null;
  const labels = [superpixelOf], picks = [];
  counts.forEach((count, stage) => {
    let mixed = joined(cls, tokens);
    for (let depth = 0; depth < sizes.blocks[stage]; depth++) {
      mixed = block(weights, `vision.stages.${stage}.${depth}`, mixed, heads, false, IMAGE_EPS);
    }
    [cls, tokens] = [mixed.slice(0, width), mixed.slice(width)];
    if (stage === sizes.part_stage - 1) segments = projected(weights, "part", tokens);
    if (stage + 1 < counts.length) {
      const seeds = farthestPoints(tokens, width, counts[stage + 1], stage === 0 ? empty : null);
      const pooled = graphPool(weights, `vision.pools.${stage}`, cls, tokens, seeds, heads, width);
      [cls, tokens] = [pooled.cls, pooled.groups];
      picks.push(seeds);
      labels.push(labels[stage].map(label => pooled.best[label]));
    }
  });
  return {whole: normalised(projected(weights, "whole", cls)), segments, labels, picks};
}

const projected = (weights, level, tokens) =>
  linear(norm(weights, `${level}_norm`, tokens, IMAGE_EPS), weights.tensor(`${level}_projection.weight`));

function joined(first, second) {
  const found = new Float32Array(first.length + second.length);
  found.set(first);
  found.set(second, first.length);
  return found;
}

/** Convolutions of kernel 3 with batch norm, then one of kernel 1. */
function stem(weights, sizes, image) {
  sizes.stem.strides.forEach((stride, place) => {
    const name = `vision.stem.layers.${3 * place}.weight`;
    image = activated(convolution(image, weights.tensor(name), null, stride), weights, `vision.stem.layers.${3 * place + 1}`, 0);
  });
  const last = `vision.stem.layers.${3 * sizes.stem.strides.length}`;
  return convolution(image, weights.tensor(`${last}.weight`), weights.numbers(`${last}.bias`));
}

/** Fixed encodings of a square grid's places, (side * side, W): sines and cosines of the row, then of the column. */
function sinCosPositions(side, width) {
  const quarter = width / 4, found = new Float32Array(side * side * width);
  for (let place = 0; place < side * side; place++) {
    [Math.floor(place / side), place % side].forEach((along, axis) => {
      for (let wave = 0; wave < quarter; wave++) {
        const angle = along * 10000 ** (-wave / quarter), at = place * width + 2 * axis * quarter + wave;
        found[at] = Math.sin(angle);
        found[at + quarter] = Math.cos(angle);
      }
    });
  }
  return found;
}

/** Groups tokens around seeds: the class token and the groups after it, and the best group of each token. */
function graphPool(weights, name, cls, tokens, seeds, heads, width) {
  const count = tokens.length / width, groups = seeds.length;
  const of = (kind, input) => linear(input, weights.tensor(`${name}.${kind}.weight`), weights.numbers(`${name}.${kind}.bias`));
  const unit = groupingFeatures(weights, name, tokens, heads, width);
  const best = new Int32Array(count), shares = [];
  for (let token = 0; token < count; token++) {
    const logits = Float32Array.from(seeds, seed => SIMILARITY_SCALE * dot(unit[token], unit[seed]));
    shares.push(softmax(logits));
    best[token] = logits.indexOf(Math.max(...logits));
  }
  const hidden = gelu(of("expand", norm(weights, `${name}.expand_norm`, joined(cls, tokens), 1e-5)));
  const wide = hidden.length / (1 + count), means = new Float32Array((1 + groups) * wide);
  means.set(hidden.subarray(0, wide));
  for (let group = 0; group < groups; group++) {
    const mass = shares.reduce((total, share) => total + share[group], 0);
    for (let place = 0; place < wide; place++) {
      let total = 0;
      for (let token = 0; token < count; token++) total += shares[token][group] * hidden[(1 + token) * wide + place];
      means[(1 + group) * wide + place] = total / mass;
    }
  }
  const values = of("reduce", norm(weights, `${name}.reduce_norm`, means, 1e-5));
  const seeded = seeds.flatMap(seed => [...tokens.subarray(seed * width, (seed + 1) * width)]);
  return {cls: sum(cls, values.subarray(0, width)), groups: sum(Float32Array.from(seeded), values.subarray(width)), best};
}

/** A row of unit norm for each token: what tells which tokens belong together. */
function groupingFeatures(weights, name, tokens, heads, width) {
  const mixed = sum(tokens, attention(weights, `${name}.attn`, norm(weights, `${name}.norm`, tokens, IMAGE_EPS), heads, false));
  const count = tokens.length / width, bias = weights.numbers(`${name}.bias`), mean = new Float64Array(width);
  mixed.forEach((value, place) => { mean[place % width] += value / count; });
  const centred = mixed.map((value, place) => value - mean[place % width] + bias[place % width]);
  return Array.from({length: count}, (_, token) => normalised(centred.subarray(token * width, (token + 1) * width)));
}
