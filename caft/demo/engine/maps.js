// Maps of a picture's size and their masks, as caft.model.maps and caft.model.otsu.

/** A map (S, S) at another size, bilinear, as torch's interpolate without aligned corners. */
function enlarged(map, side, height, width) {
  const along = length => Array.from({length}, (_, place) => {
    const at = Math.max(0, ((place + 0.5) * side) / length - 0.5), low = Math.min(Math.floor(at), side - 1);
    return {low, high: Math.min(low + 1, side - 1), share: at - low};
  });
  const found = new Float32Array(height * width), columns = along(width);
  along(height).forEach(({low, high, share}, row) => {
    columns.forEach((column, place) => {
      const upper = map[low * side + column.low] * (1 - column.share) + map[low * side + column.high] * column.share;
      const lower = map[high * side + column.low] * (1 - column.share) + map[high * side + column.high] * column.share;
      found[row * width + place] = upper * (1 - share) + lower * share;
    });
  });
  return found;
}

/** Otsu's foreground of a map, 1 or 0: strictly above the centre of the best of 256 bins; none of a constant map. */
function otsuMask(map) {
  const bins = 256, counts = new Float64Array(bins);
  const [low, high] = map.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
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
