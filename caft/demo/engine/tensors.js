// Rows of numbers: the layers that both towers share. Results are float32 as torch's, sums are of float64.
//
// Tokens (N, W) are a Float32Array of N * W numbers, row after row; a weight is {shape, data}, as in the file.

const transposed = (values, rows, columns) => {
  const found = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) found[column * rows + row] = values[row * columns + column];
  }
  return found;
};

const sum = (left, right) => left.map((value, place) => value + right[place]);

function dot(left, right, at = 0, against = 0, length = right.length) {
  let total = 0;
  for (let place = 0; place < length; place++) total += left[at + place] * right[against + place];
  return total;
}

/** Rows (N, I) times the transpose of a weight (O, I), plus a bias (O) if there is one: (N, O). */
function linear(tokens, weight, bias = null) {
  const [outputs, inputs] = weight.shape, rows = tokens.length / inputs;
  const found = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++) {
      const start = bias === null ? 0 : bias[output];
      found[row * outputs + output] = start + dot(tokens, weight.data, row * inputs, output * inputs, inputs);
    }
  }
  return found;
}

/** Layer norm of rows as wide as its weight. */
function layerNorm(tokens, weight, bias, eps) {
  const width = weight.length, found = new Float32Array(tokens.length);
  for (let start = 0; start < tokens.length; start += width) {
    let mean = 0, variance = 0;
    for (let place = 0; place < width; place++) mean += tokens[start + place] / width;
    for (let place = 0; place < width; place++) variance += (tokens[start + place] - mean) ** 2 / width;
    const scale = 1 / Math.sqrt(variance + eps);
    for (let place = 0; place < width; place++) {
      found[start + place] = (tokens[start + place] - mean) * scale * weight[place] + bias[place];
    }
  }
  return found;
}

/** Softmax of a row in place; returns it. */
function softmax(row) {
  const largest = row.reduce((most, value) => Math.max(most, value), -Infinity);
  let total = 0;
  for (let place = 0; place < row.length; place++) total += row[place] = Math.exp(row[place] - largest);
  for (let place = 0; place < row.length; place++) row[place] /= total;
  return row;
}

/** A row brought to norm one. */
function normalised(row, eps = 1e-12) {
  const norm = Math.max(Math.sqrt(dot(row, row)), eps);
  return row.map(value => value / norm);
}

/** The error function, by a series whose terms are all positive (Abramowitz and Stegun 7.1.6). */
function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x); // to 1e-16
  let term = size, total = size;
  for (let n = 1; term > 1e-17 * total; n++) total += term *= (2 * size * size) / (2 * n + 1);
  return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-size * size) * total;
}

const gelu = values => values.map(value => 0.5 * value * (1 + erf(value * Math.SQRT1_2)));

/** Self-attention of rows (N, W) by the weights `name`.qkv and `name`.proj. */
function attention(weights, name, tokens, heads, causal) {
  const projection = weights.tensor(`${name}.proj.weight`), width = projection.shape[0];
  const rows = tokens.length / width, part = width / heads, mixed = new Float32Array(tokens.length);
  const qkv = linear(tokens, weights.tensor(`${name}.qkv.weight`), weights.numbers(`${name}.qkv.bias`));
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rows; row++) {
      const seen = causal ? row + 1 : rows, logits = new Float64Array(seen), query = row * 3 * width + head * part;
      for (let other = 0; other < seen; other++) {
        logits[other] = dot(qkv, qkv, query, (other * 3 + 1) * width + head * part, part) / Math.sqrt(part);
      }
      softmax(logits);
      for (let place = 0; place < part; place++) {
        let total = 0;
        for (let other = 0; other < seen; other++) total += logits[other] * qkv[(other * 3 + 2) * width + head * part + place];
        mixed[row * width + head * part + place] = total;
      }
    }
  }
  return linear(mixed, projection, weights.numbers(`${name}.proj.bias`));
}

const norm = (weights, name, tokens, eps) =>
  layerNorm(tokens, weights.numbers(`${name}.weight`), weights.numbers(`${name}.bias`), eps);

/** Two linear maps with a GELU between them. */
const mlp = (weights, name, tokens) => linear(
  gelu(linear(tokens, weights.tensor(`${name}.fc1.weight`), weights.numbers(`${name}.fc1.bias`))),
  weights.tensor(`${name}.fc2.weight`), weights.numbers(`${name}.fc2.bias`),
);

/** A pre-norm transformer block. */
function block(weights, name, tokens, heads, causal, eps) {
  tokens = sum(tokens, attention(weights, `${name}.attn`, norm(weights, `${name}.norm1`, tokens, eps), heads, causal));
  return sum(tokens, mlp(weights, `${name}.mlp`, norm(weights, `${name}.norm2`, tokens, eps)));
}
