"""A release in miniature, on loopback: the fresh model is promoted by canary, a spoiled copy of it is rolled back."""

from ci_tools.release.rehearsal.rehearse import Rehearsal, rehearse
from ci_tools.release.rehearsal.remembered import rehearse_unless_known

__all__ = ["Rehearsal", "rehearse", "rehearse_unless_known"]
