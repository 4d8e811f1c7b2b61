"""Weights from files and to files: our own, the authors', FLAIR's and SFCN's."""
