"""The paper's tables beside what was scored: its numbers, the models that fill them, and a verdict for each cell."""
