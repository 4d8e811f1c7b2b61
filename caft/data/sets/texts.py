"""Whether a text of an evaluation set says anything; the rule is that of every text that a model reads."""

from caft.captions.words import unreadable as unreadable
