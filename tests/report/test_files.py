"""An earlier report is removed, and nothing else."""

import pytest

from ci_tools.report.files import remove


@pytest.fixture
def report(tmp_path):
    """Write files of these names; returns what `remove` leaves."""

    def left(*names):
        (tmp_path / "report").mkdir()
        for name in names:
            (tmp_path / "report" / name).touch()
        remove(tmp_path)
        return {path.name for path in (tmp_path / "report").iterdir()}

    return left


def test_report_goes_and_what_lies_beside_it_stays(report):
    assert report("results.json", "comment.md", "index.html", "wandb.json") == {"wandb.json"}


def test_page_that_no_report_wrote_stays(report):
    """A command given in the wrong folder must cost nobody a page."""
    assert report("index.html", "comment.md") == {"index.html"}


def test_no_folder_is_no_report(tmp_path):
    remove(tmp_path)
    assert list(tmp_path.iterdir()) == []
