"""Pictures from the web, or from packed tars, into shards of one form."""
