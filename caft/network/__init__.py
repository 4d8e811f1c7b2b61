"""The network of the paper: tensors in, tensors out; no file, no card, no text."""

import caft.network.portable as portable  # noqa: PLR0402  # by this form, `caft.digests` knows that it is run

portable.start()
