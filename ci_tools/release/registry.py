"""Bundles that were checked once and are kept, each in a folder named by its digest.

Law: whatever is killed at whatever time, a folder named by a digest holds that whole bundle.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ci_tools.errors import BundleError, ConfigError, explain
from ci_tools.files import sync
from ci_tools.lock import alone
from ci_tools.release.bundle import Bundle, Trust, folder, open_bundle

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOCK, _SCRATCH = ".lock", ".new-"
KEPT = 20
"""The newest bundles, which stay whether a release needs them or not: somebody may want to return to one."""


@dataclass(frozen=True)
class Registry:
    """The folder of all bundles of one release service."""

    path: Path

    def add(self, bundle: Path, trusted: Trust | None = None) -> Bundle:
        """Check a bundle and keep a copy of what was checked. A sound one that is here stays, a damaged one does not.

        Args:
            bundle: its folder.
            trusted: whose signature counts; none: that of this user's own key.

        Raises:
            BundleError: it is not what a trusted signer signed.
            SwitchbackError: the disk refuses; nothing has changed then.
        """
        checked = open_bundle(bundle, trusted)
        target = self.path / checked.digest
        try:
            with self._alone():
                if target.exists():
                    with suppress(BundleError):
                        found = self.get(checked.digest, trusted)
                        with suppress(OSError):  # of another user
                            os.utime(target)  # it is among the newest again
                        return found
                self._put(checked, target)
        except OSError as error:
            raise explain(error) from None
        return self.get(checked.digest, trusted)

    def get(self, digest: str, trusted: Trust | None = None) -> Bundle:
        """Check and read a bundle that was added.

        Raises:
            ConfigError: no such bundle here.
            BundleError: it is not what a trusted signer signed, or lies under another digest than its own.
        """
        path = self.path / digest
        if not _DIGEST.fullmatch(digest) or not path.exists():
            fix = "add it, or name one of those that `digests` lists"
            raise ConfigError(f"no bundle {digest[:64]!r}", where=self.path, fix=fix)
        return open_bundle(path, trusted)

    def digests(self) -> list[str]:
        """Of all bundles here, in no order that means anything; unchecked."""
        if not self.path.is_dir():
            return []
        return sorted(one.name for one in self.path.iterdir() if _DIGEST.fullmatch(one.name))

    def prune(self, needed: Collection[str], newest: int = KEPT) -> list[str]:
        """Remove the bundles that are neither needed nor among the newest; their digests.

        Raises:
            SwitchbackError: the disk refuses.
        """
        try:
            with self._alone():
                by_age = sorted(self.digests(), key=lambda digest: (self.path / digest).stat().st_mtime_ns)
                old = [digest for digest in by_age[: max(len(by_age) - newest, 0)] if digest not in needed]
                for digest in old:
                    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.path))
                    (self.path / digest).rename(scratch / digest)  # a half of one never has its name
                    shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            raise explain(error) from None
        return old

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process adds meanwhile; what those that were killed left half is removed."""
        self.path.mkdir(parents=True, exist_ok=True)
        with alone(self.path / _LOCK, wait=True):
            for left in self.path.glob(f"{_SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def _put(self, bundle: Bundle, target: Path) -> None:
        """Write the bytes that were checked, not those that the source may hold by now."""
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=self.path))
        try:
            folder.write(scratch / bundle.digest, bundle.files)
            if target.exists():
                target.rename(scratch / "damaged")
            (scratch / bundle.digest).rename(target)
            sync(self.path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
