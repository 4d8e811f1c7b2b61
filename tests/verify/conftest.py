"""Fixtures of tests/faults, whose checks are made here of every stage and at more moments."""

from tests.faults.conftest import disk, finished, mount  # noqa: F401
