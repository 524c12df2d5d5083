import pytest

from tests.workflows import language as languages
from tests.workflows.files import Files


@pytest.fixture(scope="session")
def language():
    """GitHub's own parser and evaluator, where npm can get them."""
    if why_not := languages.why_not():
        pytest.skip(f"workflows are not read as GitHub does: {why_not}")
    with languages.asked() as asked:
        yield asked


@pytest.fixture
def written(tmp_path, language):
    """Workflows of a repository of its own: from texts by name, what GitHub's parser makes of them."""

    def write(**texts):
        for name, text in texts.items():
            path = tmp_path / ".github/workflows" / f"{name}.yml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Files(tmp_path, language)

    return write
