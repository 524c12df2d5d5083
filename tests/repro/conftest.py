"""The same conditions as for the tests of the record."""

from tests.record.conftest import _quiet, finished

__all__ = ["_quiet", "finished"]
