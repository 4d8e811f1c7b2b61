// Maps of a picture's size and their masks, as caft.model.maps and caft.model.otsu.

/** A map (S, S) at another size, bilinear, as torch's interpolate without aligned corners. */
function enlarged(map, side, height, width) {
  const rows = betweenPixels(side, height), columns = betweenPixels(side, width), found = new Float32Array(height * width);
  for (let row = 0, place = 0; row < height; row++) {
    const {low, high, share} = rows[row];
    for (let column = 0; column < width; column++, place++) {
      const across = columns[column];
      const upper = map[low * side + across.low] * (1 - across.share) + map[low * side + across.high] * across.share;
      const lower = map[high * side + across.low] * (1 - across.share) + map[high * side + across.high] * across.share;
      found[place] = upper * (1 - share) + lower * share;
    }
  }
  return found;
}

/** For each pixel of a longer side the two of a shorter one that it lies between, and the share of the second. */
const betweenPixels = (from, to) => Array.from({length: to}, (_, place) => {
  const at = Math.max(0, ((place + 0.5) * from) / to - 0.5), low = Math.min(Math.floor(at), from - 1);
  return {low, high: Math.min(low + 1, from - 1), share: at - low};
});

/** Otsu's foreground of a map, 1 or 0: strictly above the centre of the best of 256 bins; none of a constant map. */
function otsuMask(map) {
  const bins = 256, counts = new Float64Array(bins);
  const low = map.reduce((least, value) => Math.min(least, value), Infinity);
  const high = map.reduce((most, value) => Math.max(most, value), -Infinity);
  if (!(high > low)) return new Uint8Array(map.length);
  const scaled = Float64Array.from(map, value => (value - low) / (high - low));
  for (const value of scaled) counts[Math.min(Math.floor(value * bins), bins - 1)]++;
  const centre = bin => (bin + 0.5) / bins;
  const total = scaled.length, sumAll = counts.reduce((sumSoFar, count, bin) => sumSoFar + count * centre(bin), 0);
  let below = 0, sumBelow = 0, best = 0, most = -1;
  for (let bin = 0; bin + 1 < bins; bin++) {
    below += counts[bin];
    sumBelow += counts[bin] * centre(bin);
    const between = below * (total - below) * (sumBelow / below - (sumAll - sumBelow) / (total - below)) ** 2;
    if (between > most) [most, best] = [between, bin];
  }
  return Uint8Array.from(scaled, value => value > centre(best));
}
