// Pictures on canvases: maps over them, lines around masks and segments. Colours are those of the report.

const HEAT = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
const FOUND = [255, 64, 129], NOT_FOUND = [190, 190, 190], LINE = [255, 255, 255];

// Size of a picture whose longer side is `side`.
function fitted(width, height, side) {
  const scale = side / Math.max(width, height);
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

// A picture's pixels at the size of a canvas, which is set to it; small pictures keep their edges.
function pixelsOn(canvas, picture, side) {
  const [width, height] = fitted(picture.width, picture.height, side);
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingEnabled = picture.width > width;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

function drawPicture(canvas, picture, side) {
  pixelsOn(canvas, picture, side);
}

// The picture in grey, with the map over it where one is given, dark at its least and bright at its largest value, and a line
// around the mask.
function drawLook(canvas, picture, side, look, withMap) {
  const image = pixelsOn(canvas, picture, side), {data, width, height} = image;
  if (withMap) {
    const values = stretched(look.map, look.width, look.height, width, height);
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    for (let place = 0; place < values.length; place++) {
      const colour = heat(high > low ? (values[place] - low) / (high - low) : 0), at = 4 * place;
      const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
      for (let channel = 0; channel < 3; channel++) data[at + channel] = 0.4 * grey + 0.6 * colour[channel];
    }
  } else {
    fade(data, nearest(look.mask, look.width, look.height, width, height));
  }
  drawEdges(image, nearest(look.mask, look.width, look.height, width, height), look.borneOut ? FOUND : NOT_FOUND, side > 200 ? 2 : 1);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Segments of a label map of `size` x `size`, which covers the whole picture: lines between them, or their mean colours.
function drawSegments(canvas, picture, side, labels, size, inMeans) {
  const image = pixelsOn(canvas, picture, side), {data, width, height} = image;
  const wide = nearest(labels, size, size, width, height);
  if (inMeans) fillMeans(data, wide);
  drawEdges(image, wide, LINE, 1);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function fillMeans(data, labels) {
  const sums = new Map();
  labels.forEach((label, place) => {
    const sum = sums.get(label) ?? sums.set(label, [0, 0, 0, 0]).get(label);
    for (let channel = 0; channel < 3; channel++) sum[channel] += data[4 * place + channel];
    sum[3]++;
  });
  labels.forEach((label, place) => {
    const sum = sums.get(label);
    for (let channel = 0; channel < 3; channel++) data[4 * place + channel] = sum[channel] / sum[3];
  });
}

// Outside a mask colours are faint and light.
function fade(data, mask) {
  mask.forEach((inside, place) => {
    if (inside) return;
    const at = 4 * place, grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
    for (let channel = 0; channel < 3; channel++) data[at + channel] = 0.3 * data[at + channel] + 0.7 * (0.65 * grey + 0.35 * 255);
  });
}

// A line wherever neighbours differ, `reach` pixels to either side.
function drawEdges({data, width, height}, labels, colour, reach) {
  const paint = (x, y) => {
    if (x >= 0 && y >= 0 && x < width && y < height) data.set(colour, 4 * (y * width + x));
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const place = y * width + x;
      const right = x + 1 < width && labels[place] !== labels[place + 1];
      const below = y + 1 < height && labels[place] !== labels[place + width];
      for (let step = 1 - reach; step <= reach; step++) {
        if (right) paint(x + step, y);
        if (below) paint(x, y + step);
      }
    }
  }
}

function heat(share) {
  const place = share * (HEAT.length - 1), below = Math.min(Math.floor(place), HEAT.length - 2), rest = place - below;
  return HEAT[below].map((value, channel) => value + rest * (HEAT[below + 1][channel] - value));
}

function nearest(values, fromWidth, fromHeight, width, height) {
  const wide = new Int32Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y * fromHeight / height) * fromWidth;
    for (let x = 0; x < width; x++) wide[y * width + x] = values[row + Math.floor(x * fromWidth / width)];
  }
  return wide;
}

// A map at a larger size, bilinear between the centres of its pixels.
function stretched(values, fromWidth, fromHeight, width, height) {
  const found = new Float32Array(width * height), columns = neighbours(fromWidth, width);
  neighbours(fromHeight, height).forEach(([top, bottom, down], y) => {
    columns.forEach(([left, right, across], x) => {
      const upper = values[top * fromWidth + left] * (1 - across) + values[top * fromWidth + right] * across;
      const lower = values[bottom * fromWidth + left] * (1 - across) + values[bottom * fromWidth + right] * across;
      found[y * width + x] = upper * (1 - down) + lower * down;
    });
  });
  return found;
}

// For each new pixel the two old ones beside its centre, and how near it is to the second.
function neighbours(from, to) {
  return Array.from({length: to}, (_, place) => {
    const at = Math.max(0, (place + 0.5) * from / to - 0.5), first = Math.min(Math.floor(at), from - 1);
    return [first, Math.min(first + 1, from - 1), at - first];
  });
}
