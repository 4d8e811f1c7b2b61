"""Tables that the stages hand to each other."""
