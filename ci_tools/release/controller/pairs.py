"""pairs.db: scores of mirrored requests, which wait for their labels through the watch phase.

What is counted into the judge's state is marked with the generation of judged.json that holds it. Marks of a later
generation than that file's are of counts that died with a controller: they are taken back when another one begins.
Law: each pair counts once, and each label counts once, whenever a controller dies.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ci_tools.errors import SwitchbackError
from ci_tools.release.controller.predictions import Pair

AT_ONCE = 5_000
"""Labels that are kept, or counted, in one go."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pairs (
    id TEXT PRIMARY KEY, champion REAL, canary REAL, seen INTEGER, label REAL, counted INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting ON pairs (id) WHERE label IS NOT NULL AND counted IS NULL;
"""
_ADD = """
INSERT INTO pairs (id, champion, canary, seen) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET seen = excluded.seen WHERE seen IS NULL
"""


class Pairs:
    """The pairs of one release. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open, or begin where there is none.

        Raises:
            SwitchbackError: it cannot be opened.
        """
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def close(self) -> None:
        """Let go of the file; what was not committed is lost."""
        self._db.close()

    def clear(self) -> None:
        """Forget all: the release is over."""
        self._run("DELETE FROM pairs", [()])
        self.commit()

    def take_back(self, generation: int) -> None:
        """What was counted behind a generation was not; labels stay where they are."""
        self._run("UPDATE pairs SET seen = NULL WHERE seen > ?", [(generation,)])
        self._run("UPDATE pairs SET counted = NULL WHERE counted > ?", [(generation,)])
        self.commit()

    def add(self, pairs: Iterable[Pair], generation: int) -> list[Pair]:
        """Keep pairs, one row per row of the request; returns those that were not there yet.

        The id of a request's only row is the request's; of several, `ID#0`, `ID#1` and so on.
        """
        fresh = []
        for pair in pairs:
            champion, canary = pair.champion or (None,), pair.canary or (None,) * len(pair.champion or (None,))
            names = [pair.id] if len(champion) == 1 else [f"{pair.id}#{row}" for row in range(len(champion))]
            rows = [(name, *scores, generation) for name, *scores in zip(names, champion, canary, strict=False)]
            if self._run(_ADD, rows):
                fresh.append(pair)
        return fresh

    def unanswered(self) -> int:
        """Rows that the champion answered and the canary did not, or not with a valid score."""
        query = "SELECT count(*) FROM pairs WHERE canary IS NULL AND champion IS NOT NULL"
        return int(self._rows(query, ())[0][0])

    def label(self, labels: Mapping[str, float]) -> int:
        """Keep true outcomes of requests, the first of each; returns how many belong to pairs."""
        known = sum(len(self._rows("SELECT id FROM pairs WHERE id = ?", (id_,))) for id_ in labels)
        self._run("UPDATE pairs SET label = ? WHERE id = ? AND label IS NULL",
                  [(label, id_) for id_, label in labels.items()])  # fmt: skip
        self.commit()
        return known

    def losses(self, generation: int) -> tuple[float, ...]:
        """Of labels that were not counted yet, the canary's loss minus the champion's; they count from now on.

        The loss is Brier's, (score − label)², in [0, 1]; no answer costs 1.
        """
        query = "SELECT id, champion, canary, label FROM pairs WHERE label IS NOT NULL AND counted IS NULL LIMIT ?"
        rows = self._rows(query, (AT_ONCE,))
        self._run("UPDATE pairs SET counted = ? WHERE id = ?", [(generation, row[0]) for row in rows])
        return tuple(_loss(canary, label) - _loss(champion, label) for _, champion, canary, label in rows)

    def commit(self) -> None:
        """Put everything so far on the disk.

        Raises:
            SwitchbackError: the disk refuses.
        """
        try:
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def forget(self) -> None:
        """Go back to what is on the disk."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _rows(self, query: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def _run(self, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
        """How many rows it changed; it is on the disk after `commit`."""
        if not rows:
            return 0
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN")
            return self._db.executemany(statement, rows).rowcount
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def _refused(self, error: sqlite3.Error) -> SwitchbackError:
        fix = "free some disk space" if "full" in str(error) else "move it away and start the service again"
        return SwitchbackError(f"cannot be used ({error})", where=self._path, fix=fix)


def _loss(score: float | None, label: float) -> float:
    return 1.0 if score is None else min((score - label) ** 2, 1.0)
