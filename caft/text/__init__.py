"""Sentences, chunks, tokens and the hierarchical text encoder."""
