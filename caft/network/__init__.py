"""The network of the paper: tensors in, tensors out; no file, no card, no text."""
