"""The finished record of the record's tests serves these, too."""

from tests.record.conftest import finished as finished
