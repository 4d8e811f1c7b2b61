// Superpixels by SFCN, as caft.network.vision.superpixels.
const SFCN_MEAN = [0.411, 0.432, 0.45], LEAK = 0.1;

/** Superpixel of each pixel, (S, S), of RGB bytes. */
function superpixels(weights, rgb, side, cell) {
  const step = (name, image, stride = 1) => activated(
    convolution(image, weights.tensor(`superpixels.${name}.0.weight`), null, stride), weights, `superpixels.${name}.1`, LEAK);
  let image = planes(rgb, side, SFCN_MEAN, [1, 1, 1]);
  const skips = [];
  for (let level = 0; weights.has(`superpixels.conv${level}a.0.weight`); level++) {
    image = step(`conv${level}b`, step(`conv${level}a`, image, level === 0 ? 1 : 2));
    skips.push(image);
  }
  for (let level = skips.length - 2; level >= 0; level--) {
    const name = `superpixels.deconv${level}.0`;
    const up = raised(image, weights.tensor(`${name}.weight`), weights.numbers(`${name}.bias`));
    const data = new Float32Array(skips[level].data.length + up.data.length);
    data.set(skips[level].data);
    up.data.forEach((value, place) => { data[skips[level].data.length + place] = value > 0 ? value : LEAK * value; });
    image = step(`conv${level}_1`, {channels: skips[level].channels + up.channels, side: up.side, data});
  }
  const logits = convolution(image, weights.tensor("superpixels.pred_mask0.weight"), weights.numbers("superpixels.pred_mask0.bias"));
  return hardLabels(logits.data, side, cell);
}

/** The cell of the largest of nine logits (9, S, S): that around each pixel, row by row; outside is the border. */
function hardLabels(logits, side, cell) {
  const size = side * side, cells = side / cell, labels = new Int32Array(size);
  const clamped = place => Math.min(Math.max(place, 0), cells - 1);
  for (let pixel = 0; pixel < size; pixel++) {
    let best = 0;
    for (let place = 1; place < 9; place++) if (logits[place * size + pixel] > logits[best * size + pixel]) best = place;
    const row = Math.floor(Math.floor(pixel / side) / cell) + Math.floor(best / 3) - 1;
    const column = Math.floor((pixel % side) / cell) + (best % 3) - 1;
    labels[pixel] = clamped(row) * cells + clamped(column);
  }
  return labels;
}

/** Means of features (places, W) over superpixels; an empty one repeats the nearest that is not. */
function superpixelTokens(features, labels, count, width) {
  const sums = new Float64Array(count * width), counts = new Int32Array(count);
  labels.forEach((label, place) => {
    counts[label]++;
    for (let channel = 0; channel < width; channel++) sums[label * width + channel] += features[place * width + channel];
  });
  const side = Math.round(Math.sqrt(count)), tokens = new Float32Array(count * width);
  for (let token = 0; token < count; token++) {
    let source = token, nearest = counts[token] ? 0 : Infinity;
    for (let other = 0; other < count; other++) {
      const down = Math.floor(token / side) - Math.floor(other / side), across = (token % side) - (other % side);
      if (counts[other] && down * down + across * across < nearest) {
        nearest = down * down + across * across;
        source = other;
      }
    }
    for (let channel = 0; channel < width; channel++) {
      tokens[token * width + channel] = sums[source * width + channel] / counts[source];
    }
  }
  return {tokens, empty: Array.from(counts, members => members === 0)};
}
