"""From a caption to what the text encoder reads: sentences, chunks, tokens."""
