"""The model in the forms that other tools expect."""
