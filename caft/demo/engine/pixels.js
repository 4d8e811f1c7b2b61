// Pictures at the model's size, as caft.transforms: Pillow's bicubic resizing with its rounding.
const PRECISION = 22; // bits of a weight behind the point
const LONGEST = 16; // long side over short side beyond which the ends of a picture are cut off before a central crop

/** Python's round, which takes halves to the even number. */
const rounded = value => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));

/** RGB of RGBA: transparent parts become white, as Pillow's alpha_composite on it. */
function onWhite(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const share = rgba[from + 3] * 128; // of 255 * 128, as Pillow's integers
    for (let channel = 0; channel < 3; channel++) {
      const mixed = rgba[from + channel] * share + 255 * (255 * 128 - share) + 128 * 128;
      rgb[to + channel] = ((mixed + (mixed >> 8)) >> 8) >> 7;
    }
  }
  return rgb;
}

/** Pillow's weights of each pixel of a resized side: the first pixel that it is made of, and integers. */
function bicubicWeights(from, to) {
  const scale = from / to, wide = Math.max(scale, 1), support = 2 * wide;
  return Array.from({length: to}, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const count = Math.min(Math.trunc(centre + support + 0.5), from) - first;
    const exact = Float64Array.from({length: count}, (_, at) => cubic((at + first - centre + 0.5) * (1 / wide)));
    const total = exact.reduce((sumSoFar, value) => sumSoFar + value, 0);
    const weights = exact.map(value => {
      const fixed = (value / total) * 2 ** PRECISION;
      return Math.trunc(fixed + (fixed < 0 ? -0.5 : 0.5));
    });
    return {first, weights};
  });
}

/** The cubic kernel with a = -1/2. */
function cubic(x) {
  const size = Math.abs(x);
  if (size < 1) return ((-0.5 + 2) * size - (-0.5 + 3)) * size * size + 1;
  return size < 2 ? (((size - 5) * size + 8) * size - 4) * -0.5 : 0;
}

/** Resizes RGB bytes: first across and then down, but a side that is far too high down first, as Pillow 13. */
function resized(rgb, width, height, toWidth, toHeight) {
  const across = (from, high) => toWidth === width ? from
    : along(from, toWidth, high, 3, 3 * width, 3 * toWidth, 3, bicubicWeights(width, toWidth));
  const down = (from, wide) => toHeight === height ? from
    : along(from, toHeight, wide, 3 * wide, 3, 3, 3 * wide, bicubicWeights(height, toHeight));
  const downFirst = height > toHeight && height - toHeight > 2 * (width - toWidth);
  return downFirst ? across(down(rgb, width), toHeight) : down(across(rgb, height), toWidth);
}

/** One direction: `step` leads to the next pixel of a line, `line` and `toLine` to the next line, `toStep` to the next result. */
function along(rgb, length, lines, step, line, toLine, toStep, weighted) {
  const found = new Uint8ClampedArray(length * lines * 3);
  for (let place = 0; place < length; place++) {
    const {first, weights} = weighted[place];
    for (let number = 0; number < lines; number++) {
      for (let channel = 0; channel < 3; channel++) {
        let total = 2 ** (PRECISION - 1);
        for (let at = 0; at < weights.length; at++) total += rgb[number * line + (first + at) * step + channel] * weights[at];
        found[number * toLine + place * toStep + channel] = Math.floor(total / 2 ** PRECISION);
      }
    }
  }
  return new Uint8Array(found.buffer);
}

function part(rgb, width, left, top, wide, high) {
  const found = new Uint8Array(3 * wide * high);
  for (let row = 0; row < high; row++) {
    const start = 3 * ((top + row) * width + left);
    found.set(rgb.subarray(start, start + 3 * wide), 3 * row * wide);
  }
  return found;
}

/** The whole picture at size x size, whatever its shape; RGBA bytes to RGB bytes. */
const squash = (rgba, width, height, size) => resized(onWhite(rgba), width, height, size, size);

/** The middle of the picture after its short side was brought to `size`; RGBA bytes to RGB bytes (size, size, 3). */
function centre(rgba, width, height, size) {
  let rgb = onWhite(rgba);
  const longest = LONGEST * Math.min(width, height);
  const cut = [width, height].map(side => Math.max(0, Math.floor((side - longest) / 2)));
  if (cut[0] || cut[1]) {
    rgb = part(rgb, width, cut[0], cut[1], width - 2 * cut[0], height - 2 * cut[1]);
    [width, height] = [width - 2 * cut[0], height - 2 * cut[1]];
  }
  const scale = size / Math.min(width, height);
  const [wide, high] = [width, height].map(side => Math.max(size, rounded(side * scale)));
  return part(resized(rgb, width, height, wide, high), wide, rounded((wide - size) / 2), rounded((high - size) / 2), size, size);
}
