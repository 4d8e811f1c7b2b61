"""A model in a web page: what the page runs, and the model in a form that it holds."""
