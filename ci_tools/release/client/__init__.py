"""What people and CI jobs ask of a release service from the command line.

release("bundles/fraud", Address())        # begin a canary, follow it to its verdict
status(Address())                          # what is going on
order("rollback", Address(), reason="…")   # pause, resume, rollback, promote
"""

from ci_tools.release.client.commands import order, release, status
from ci_tools.release.client.connection import Address
from ci_tools.release.client.results import Ordered, Released, Shown

__all__ = ["Address", "Ordered", "Released", "Shown", "order", "release", "status"]
