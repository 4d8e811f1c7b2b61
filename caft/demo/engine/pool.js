// Text-conditioned pooling, as caft.network.text_pool: each text asks the segments, and an empty slot of logit zero.
const POOL_EPS = 1e-5;

/** Keys and values of a picture's segments (N, D), computed once. */
function preparedSegments(weights, segments) {
  const of = kind => linear(norm(weights, `pool.norm_${kind}`, segments, POOL_EPS),
    weights.tensor(`pool.${kind}.weight`), weights.numbers(`pool.${kind}.bias`));
  return {keys: of("key"), values: of("value")};
}

/** What a text (D) pools: its cosine with that, and its attention (N), the mean over the heads. */
function ask(weights, heads, prepared, text) {
  const dim = text.length, part = dim / heads, count = prepared.keys.length / dim;
  const query = linear(norm(weights, "pool.norm_query", text, POOL_EPS),
    weights.tensor("pool.query.weight"), weights.numbers("pool.query.bias"));
  const mixed = new Float32Array(dim), attention = new Float32Array(count);
  for (let head = 0; head < heads; head++) {
    const logits = new Float64Array(count + 1); // the empty slot's is the last
    for (let segment = 0; segment < count; segment++) {
      logits[segment] = dot(query, prepared.keys, head * part, segment * dim + head * part, part) / Math.sqrt(part);
    }
    softmax(logits);
    for (let segment = 0; segment < count; segment++) {
      attention[segment] += logits[segment] / heads;
      for (let place = head * part; place < (head + 1) * part; place++) {
        mixed[place] += logits[segment] * prepared.values[segment * dim + place];
      }
    }
  }
  const pooled = linear(mixed, weights.tensor("pool.out.weight"), weights.numbers("pool.out.bias"));
  const length = Math.max(Math.sqrt(dot(pooled, pooled)), 1e-8) * Math.max(Math.sqrt(dot(text, text)), 1e-8);
  return {cosine: dot(pooled, text) / length, attention};
}
