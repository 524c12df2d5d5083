from tests.workflows import trust
from tests.workflows.files import Files
from tests.workflows.matrix import EVENTS, ROOT, markdown, table


def test_the_table_says_of_each_job_when_it_runs_and_what_it_holds(language):
    head, *rows = table(trust.planned(Files(ROOT, language)))
    documented = (ROOT / "docs/workflows.md").read_text()
    assert f"<!-- matrix -->\n{markdown([head, *rows])}\n<!-- /matrix -->" in documented
    jobs = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    lint, fork, comment = jobs["ci.yml: lint"], jobs["gpu.yml: fork / experiment"], jobs["report.yml: comment"]
    assert [lint[event] for event in EVENTS] == ["runs", "runs", "runs", "runs", "-", "-", "-", "-", "-"]
    assert (fork["fork's pull request"], fork["dispatch"]) == ("-", "waits")
    assert (comment["after a fork's run"], comment["fork's pull request"]) == ("runs", "-")
    assert "pull-requests: write" in comment["permissions"]
    assert jobs["release.yml: release"]["secrets"] == "SWITCHBACK_TOKEN"


def test_the_table_is_markdown():
    text = markdown([["job", "push"], ["ci.yml: lint", "runs"]])
    assert text.splitlines()[:3] == ["| job | push |", "| --- | --- |", "| ci.yml: lint | runs |"]
