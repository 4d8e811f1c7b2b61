// The text hierarchy: sub-captions from tokens, whole captions from sub-captions, as caft.network.text.encoder.
const TEXT_EPS = 1e-5;

/** Feature of a text at its end token, (W), of ids with start and end. */
function encodeSubCaption(weights, sizes, ids) {
  const {width, heads, sub_layers: layers} = sizes.text, table = weights.numbers("sub_caption.embedding.weight");
  const positions = weights.numbers("sub_caption.positions");
  let hidden = new Float32Array(ids.length * width);
  ids.forEach((id, place) => {
    for (let channel = 0; channel < width; channel++) {
      hidden[place * width + channel] = table[id * width + channel] + positions[place * width + channel];
    }
  });
  for (let layer = 0; layer < layers; layer++) {
    hidden = block(weights, `sub_caption.blocks.${layer}`, hidden, heads, true, TEXT_EPS);
  }
  const end = ids.indexOf(END); // the first, if the text spells it
  return norm(weights, "sub_caption.norm", hidden.slice(end * width, (end + 1) * width), TEXT_EPS);
}

/** What the part level compares of features, (T, W) to (T, D). */
const projectSubCaptions = (weights, features) => linear(features, weights.tensor("sub_caption_projection.weight"));

/** Whole-level feature of unit norm, (D), of the features of a caption's chunks, (M, W). */
function encodeWholeCaption(weights, sizes, features) {
  const {width, heads, whole_layers: layers} = sizes.text, gamma = weights.numbers("whole_caption.gamma");
  const adapted = mlp(weights, "whole_caption.adapter", features);
  const chunks = features.map((value, place) => value + gamma[place % width] * adapted[place]);
  let hidden = sum(joined(chunks, weights.numbers("whole_caption.cls")), weights.numbers("whole_caption.positions"));
  for (let layer = 0; layer < layers; layer++) {
    hidden = block(weights, `whole_caption.blocks.${layer}`, hidden, heads, true, TEXT_EPS);
  }
  const last = norm(weights, "whole_caption.norm", hidden.slice(-width), TEXT_EPS);
  return normalised(linear(last, weights.tensor("whole_caption_projection.weight")));
}
