"""What a user holds: a network with its card and its preprocessing."""
