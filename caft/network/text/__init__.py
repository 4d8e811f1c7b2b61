"""The hierarchical text encoder."""
