"""Pairwise sigmoid losses, part level and whole level."""
