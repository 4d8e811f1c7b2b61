"""What the model costs: counts by formula, and measurements of a step."""
