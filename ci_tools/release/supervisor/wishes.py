"""What the controller wants: the plan and its lease, as they lie on the disk now."""

from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from ci_tools.config import Config
from ci_tools.release.home import Home
from ci_tools.release.plan import LEASE_SECONDS, Lease, Plan, boot_time

C = TypeVar("C", bound=Config)
LONGEST_LEASE = 2 * LEASE_SECONDS
"""Seconds ahead beyond which no lease is believed: boot time began anew since it was written, or somebody erred."""


class Wishes:
    """Plan and lease, read again when they change."""

    def __init__(self, home: Home) -> None:
        self._plan = Watched(home.plan, Plan)
        self._lease = Watched(home.lease, Lease)

    def look(self) -> None:
        """See what is on the disk."""
        self._plan.look()
        self._lease.look()

    @property
    def plan(self) -> Plan | None:
        """The last one that could be read; None before the first."""
        return self._plan.value

    @property
    def leased(self) -> bool:
        """Whether the plan's weights hold now."""
        lease = self._lease.value
        if self.problem or self.plan is None or lease is None or lease.serial != self.plan.serial:
            return False
        return 0 < lease.until - boot_time() <= LONGEST_LEASE

    @property
    def problem(self) -> str:
        """Why plan or lease cannot be read; empty: nothing is wrong with them."""
        return self._plan.problem or self._lease.problem


class Watched(Generic[C]):
    """A file that another process replaces."""

    def __init__(self, path: Path, model: type[C]) -> None:
        self.path = path
        self.value: C | None = None
        """What it said when it last made sense."""
        self.problem = ""
        """Why it makes no sense now; empty where it does, or is not there."""
        self._model = model
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> None:
        """Read it if it changed."""
        try:
            stat = self.path.stat()
            seen = stat.st_ino, stat.st_size, stat.st_mtime_ns
            if seen == self._seen:
                return
            self.value = self._model.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            seen, self.problem = None, f"{self.path} was removed" if self.value is not None else ""
        except OSError as error:
            seen, self.problem = None, f"{self.path}: {error.strerror}"
        except ValidationError as error:
            self.problem = f"{self.path}: {error.errors(include_url=False)[0]['msg']}"
        else:
            self.problem = ""
        self._seen = seen
