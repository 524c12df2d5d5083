"""What Switchback says on GitHub: a comment per pull request, commit statuses, deployments, issues, pull requests.

`sticky`, `failures` and `claim.contradiction` decide and are pure; `session` is where requests are sent and waited for.
PyGithub is imported when the first request is made.
"""

from ci_tools.report.github.claim import check_claim, pull_request_of
from ci_tools.report.github.comment import Published, publish_comment
from ci_tools.report.github.event import Event, Head, find_event, read_event
from ci_tools.report.github.issues import Opened, open_issue
from ci_tools.report.github.proposal import Change, Proposed, propose
from ci_tools.report.github.pulls import merged_as, merged_since, refuse_unless_head
from ci_tools.report.github.session import Patience
from ci_tools.report.github.statuses import DeploymentState, commit_status, deployment, deployment_status
from ci_tools.report.github.target import Target

__all__ = [
    "Change",
    "DeploymentState",
    "Event",
    "Head",
    "Opened",
    "Patience",
    "Proposed",
    "Published",
    "Target",
    "check_claim",
    "commit_status",
    "deployment",
    "deployment_status",
    "find_event",
    "merged_as",
    "merged_since",
    "open_issue",
    "propose",
    "publish_comment",
    "pull_request_of",
    "read_event",
    "refuse_unless_head",
]
