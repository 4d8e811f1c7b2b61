"""What stands behind the scores: single cases, attributes, levels, curves, and the data itself."""
