"""Superpixels and the fine-to-coarse image encoder."""
