// Farthest point sampling from the mean, as caft.network.vision.sampling.
const ZERO = 1e-12, EMPTY = -1, PICKED = -2;

/** Numbers of the picks of points (N, W); those that are empty stay out of it. */
function farthestPoints(points, width, count, empty = null) {
  const total = points.length / width, live = Array.from({length: total}, (_, point) => !(empty && empty[point]));
  const mean = new Float64Array(width), lives = Math.max(1, live.filter(Boolean).length);
  const centred = new Float64Array(points.length);
  for (let point = 0; point < total; point++) {
    if (live[point]) for (let place = 0; place < width; place++) mean[place] += points[point * width + place] / lives;
  }
  for (let point = 0; point < total; point++) {
    if (live[point]) for (let place = 0; place < width; place++) centred[point * width + place] = points[point * width + place] - mean[place];
  }
  const squared = point => dot(centred, centred, point * width, point * width, width);
  const largest = Math.max(...Array.from({length: total}, (_, point) => squared(point)), 1e-60);
  const atLeast = value => (value <= ZERO ? 0 : value);
  const norms = Array.from({length: total}, (_, point) => squared(point) / largest);
  const nearest = norms.map((value, point) => (live[point] ? atLeast(value) : EMPTY));
  return Array.from({length: count}, () => {
    const farthest = Math.max(...nearest), pick = nearest.findIndex(value => value >= farthest - ZERO);
    for (let point = 0; point < total; point++) {
      const product = dot(centred, centred, point * width, pick * width, width) / largest;
      const distance = point === pick ? 0 : atLeast(norms[point] + norms[pick] - 2 * product);
      nearest[point] = Math.min(nearest[point], distance);
    }
    nearest[pick] = PICKED;
    return pick;
  });
}
