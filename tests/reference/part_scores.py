"""Part scores pair by pair: the pooled feature of an image and a chunk is built, and compared with the chunk."""

import numpy as np


def linear(layer, x):
    return layer["weight"] @ x + layer["bias"]


def layer_norm(norm, x):
    centred = x - x.mean()
    return centred / np.sqrt((centred**2).mean() + 1e-5) * norm["weight"] + norm["bias"]


def layers(pool):
    """Weights of a pooling in float64, by the names of its layers."""
    return {
        name: {key: value.detach().double().numpy() for key, value in layer.named_parameters()}
        for name, layer in pool.named_children()
    }


def pooled(weights, heads, segments, chunk):
    """One chunk (D,) asks segments (N, D): attention head by head, one segment after the other."""
    query = np.split(linear(weights["query"], layer_norm(weights["norm_query"], chunk)), heads)
    mixed = []
    for head in range(heads):
        exponentials, values = [], []
        for segment in segments:
            key = np.split(linear(weights["key"], layer_norm(weights["norm_key"], segment)), heads)[head]
            exponentials.append(np.exp(query[head] @ key / np.sqrt(len(key))))
            values.append(np.split(linear(weights["value"], layer_norm(weights["norm_value"], segment)), heads)[head])
        total = sum(exponentials) + 1.0  # the empty slot's logit is zero, and so is its value
        mixed.append(sum(share / total * value for share, value in zip(exponentials, values, strict=True)))
    return linear(weights["out"], np.concatenate(mixed))


def cosine(a, b):
    return a @ b / max(np.linalg.norm(a), 1e-8) / max(np.linalg.norm(b), 1e-8)


def mean_cosines(pool, part, texts):
    """Images (B, N, D) and captions' chunks (Q, C, D) to (B, Q)."""
    weights, part, texts = layers(pool), part.double().numpy(), texts.double().numpy()
    return np.array(
        [
            [
                np.mean([cosine(pooled(weights, pool.heads, image, chunk), chunk) for chunk in caption])
                for caption in texts
            ]
            for image in part
        ]
    )
