"""Recall at k as a person would count it: one query after the other."""


def hits(own, others, k):
    """A query succeeds when fewer than k wrong candidates score at least as much as its best right one."""
    better = 0
    for score in others:
        if not score < max(own):
            better += 1
    return better < k


def recall(scores, truth, k):
    """Percent of images that find a text, and of texts that find their image."""
    images, texts = len(scores), len(scores[0])
    found_texts = [
        hits(
            [scores[i][t] for t in range(texts) if truth[t] == i],
            [scores[i][t] for t in range(texts) if truth[t] != i],
            k,
        )
        for i in range(images)
    ]
    found_images = [
        hits([scores[truth[t]][t]], [scores[i][t] for i in range(images) if i != truth[t]], k) for t in range(texts)
    ]
    return 100 * sum(found_texts) / images, 100 * sum(found_images) / texts


def ties(scores, truth):
    """Queries for which a wrong candidate scores exactly as the best right one."""
    images, texts = len(scores), len(scores[0])
    count = 0
    for i in range(images):
        best = max(scores[i][t] for t in range(texts) if truth[t] == i)
        count += any(scores[i][t] == best for t in range(texts) if truth[t] != i)
    for t in range(texts):
        count += any(scores[i][t] == scores[truth[t]][t] for i in range(images) if i != truth[t])
    return count
