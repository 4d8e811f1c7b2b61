// CAFT++ and what adds up to it, as caft.model.scores and caft.model.shares; and whether a picture bears a sentence out.
const LEAST_PROBABILITY = 0.2, LEAST_PERCENTILE = 50; // as caft.model.match

const sigmoid = logit => 1 / (1 + Math.exp(-logit));

/** Share in percent of references that lie below a value; equal ones count half. */
const percentile = (value, references) =>
  references.reduce((total, other) => total + (other < value ? 100 : other === value ? 50 : 0), 0) / references.length;

/** What a logit says of whether a picture bears a text out, beside those of the reference sentences. */
function match(logit, others) {
  const found = {logit, probability: sigmoid(logit), percentile: percentile(logit, others)};
  return {...found, borneOut: found.probability >= LEAST_PROBABILITY && found.percentile >= LEAST_PERCENTILE};
}

/**
 * A score taken apart. `groups` are the sentence numbers of each chunk, `ofChunks` and `alone` part-level logits without
 * bias, of chunks and of sentences as chunks by themselves; a sentence's share of its chunk is by the equal-surplus division.
 */
function sentenceShares(groups, ofChunks, alone, partWeight) {
  const shares = new Float64Array(alone.length);
  groups.forEach((group, chunk) => {
    const mean = group.reduce((total, number) => total + alone[number], 0) / group.length;
    for (const number of group) {
      shares[number] += (partWeight / groups.length) * (ofChunks[chunk] / group.length + alone[number] - mean);
    }
  });
  return shares;
}
