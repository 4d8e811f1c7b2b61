"""The index that training reads, and batches from it."""
