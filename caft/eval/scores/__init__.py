"""Scores of the paper's tables."""
