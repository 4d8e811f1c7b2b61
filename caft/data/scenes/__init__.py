"""The rendered corpus: simple scenes whose every object, place and word is known.

It exists so that the whole project runs, end to end and with exact ground truth, on a laptop
without a download. It is written in the formats in which the real corpora are published.
"""
