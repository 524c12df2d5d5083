"""The files of a report, and that none outlives what it tells."""

from pathlib import Path

FOLDER = Path("report")
RESULTS, COMMENT, PAGE = "results.json", "comment.md", "index.html"


def remove(root: Path = Path()) -> None:
    """Remove what an earlier call left: it says nothing about what comes now. What `switchback track` left stays.

    So does a page without results.json, which is written first and removed last: it is somebody else's.

    Raises:
        OSError: a file cannot be removed.
    """
    if (folder := root / FOLDER).is_dir():
        for name in (COMMENT, *((PAGE, RESULTS) if (folder / RESULTS).is_file() else ())):
            (folder / name).unlink(missing_ok=True)
