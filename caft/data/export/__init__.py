"""What this project has, as other people's programs read it."""
