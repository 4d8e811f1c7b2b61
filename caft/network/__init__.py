"""The network of the paper: tensors in, tensors out; no file, no card, no text."""

import caft.network.portable

caft.network.portable.start()
