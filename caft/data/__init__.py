"""Corpora, their files, and how training reads them."""
