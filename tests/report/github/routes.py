"""What each request does to a `Hub`: as GitHub documents it, for those that reports send and no others."""

from urllib.parse import unquote

from tests.report.github.hub import REPOSITORY, Reply, account, pull_request, refusal

R = f"/repos/{REPOSITORY}"
FORBIDDEN = refusal(403, "Resource not accessible by integration")
LONGEST_COMMENT, LONGEST_DESCRIPTION = 65_536, 140


def viewer(hub, query, variables):
    assert (query, variables) == ("query { viewer { login } }", {})
    return Reply(200, {"data": {"viewer": {"login": hub.login}}})


def read_pull(hub, number):
    pull = hub.pulls.get(number)
    return Reply(200, {**pull, "url": f"{hub.url}{R}/pulls/{number}"}) if pull else refusal(404, "Not Found")


def list_comments(hub, issue, per_page="30", page="1"):
    if issue not in hub.pulls:
        return refusal(404, "Not Found")
    url = f"{hub.url}{R}/issues/{issue}"
    every = [comment for _, comment in sorted(hub.comments.items()) if comment["issue_url"] == url]
    return paged(hub, f"{R}/issues/{issue}/comments", every, int(per_page), int(page))


def create_comment(hub, issue, body):
    if "pull-requests" not in hub.permissions:
        return FORBIDDEN
    if issue not in hub.pulls:
        return refusal(404, "Not Found")
    if hub.pulls[issue]["locked"]:
        return refusal(403, "Unable to create comment because issue is locked.")
    if len(body) > LONGEST_COMMENT:
        return refusal(422, "Validation Failed")
    return Reply(201, hub.comments[hub.comment(body, hub.login, issue)])


def edit_comment(hub, number, body):
    if "pull-requests" not in hub.permissions:
        return FORBIDDEN
    if number not in hub.comments:
        return refusal(404, "Not Found")
    hub.comments[number]["body"] = body
    return Reply(200, hub.comments[number])


def delete_comment(hub, number):
    if "pull-requests" not in hub.permissions:
        return FORBIDDEN
    return Reply(204) if hub.comments.pop(number, None) else refusal(404, "Not Found")


def create_status(hub, sha, state, context="default", description=None, target_url=None):
    if "statuses" not in hub.permissions:
        return FORBIDDEN
    if not any(pull["head"]["sha"] == sha for pull in hub.pulls.values()):
        return Reply(422, {"message": "Validation Failed", "errors": [{"message": f"No commit found for SHA: {sha}"}]})
    if len(description or "") > LONGEST_DESCRIPTION:
        return refusal(422, "Validation Failed")
    status = {"id": hub.next_id(), "state": state, "context": context, "description": description}
    hub.statuses.append({**status, "target_url": target_url, "creator": account(hub.login)})
    return Reply(201, hub.statuses[-1])


def combined_status(hub, sha):
    """The newest status of each context."""
    newest = {status["context"]: status for status in hub.statuses}
    return Reply(200, {"sha": sha, "statuses": list(newest.values())})


def create_deployment(hub, ref, environment="production", required_contexts=None, auto_merge=True, **more):
    if "deployments" not in hub.permissions:
        return FORBIDDEN
    if required_contexts != [] or auto_merge:
        return refusal(409, "Conflict: Commit status checks failed for main")
    number = hub.next_id()
    url = f"{hub.url}{R}/deployments/{number}"
    hub.deployments[number] = {"id": number, "url": url, "sha": ref, "environment": environment, **more}
    return Reply(201, hub.deployments[number])


def list_deployments(hub, sha, environment, per_page="30", page="1"):
    fitting = [d for d in hub.deployments.values() if (d["sha"], d["environment"]) == (sha, environment)]
    return paged(hub, f"{R}/deployments", fitting[::-1], int(per_page), int(page))


def create_deployment_status(hub, number, state, description="", target_url="", environment_url=""):
    if "deployments" not in hub.permissions:
        return FORBIDDEN
    if number not in hub.deployments:
        return refusal(404, "Not Found")
    if len(description) > LONGEST_DESCRIPTION:
        return refusal(422, "Validation Failed")
    status = {"id": hub.next_id(), "deployment": number, "state": state, "description": description}
    hub.deployment_statuses.append({**status, "target_url": target_url, "environment_url": environment_url})
    return Reply(201, hub.deployment_statuses[-1])


def list_deployment_statuses(hub, number, per_page="30", page="1"):
    statuses = [status for status in hub.deployment_statuses if status["deployment"] == number]
    return paged(hub, f"{R}/deployments/{number}/statuses", statuses[::-1], int(per_page), int(page))


def pulls_of_commit(hub, sha, per_page="30", page="1"):
    """Those that `hub.merges` says were merged as the commit, or hold it."""
    return paged(hub, f"{R}/commits/{sha}/pulls", hub.merges.get(sha, []), int(per_page), int(page))


def compare(hub, before, sha, per_page="250", page="1"):
    """The commits behind one up to another, the oldest first, as `hub.pushes` has them."""
    commits = hub.pushes.get((before, sha), [{"sha": sha, "parents": [{"sha": before}]}])
    reply = paged(hub, f"{R}/compare/{before}...{sha}", commits, int(per_page), int(page))
    return Reply(200, {"total_commits": len(commits), "commits": reply.body}, reply.headers)


def list_issues(hub, state="open", labels="", sort="created", per_page="30", page="1"):
    """The newest first; a pull request is an issue, too."""
    fitting = [
        one
        for _, one in sorted(hub.issues.items(), reverse=True)
        if state in ("all", one["state"])
        and set(filter(None, labels.split(","))) <= {label["name"] for label in one["labels"]}
    ]
    return paged(hub, f"{R}/issues", fitting, int(per_page), int(page))


def create_issue(hub, title, body="", labels=()):
    if "issues" not in hub.permissions:
        return FORBIDDEN
    return Reply(201, hub.issues[hub.issue(title, body, labels, hub.login)])


def edit_issue(hub, number, **changes):
    if "issues" not in hub.permissions:
        return FORBIDDEN
    hub.issues[number].update(changes)
    return Reply(200, hub.issues[number])


def create_tree(hub, tree, base_tree):
    if "contents" not in hub.permissions:
        return FORBIDDEN
    sha = f"{hub.next_id():040x}"
    hub.trees[sha] = {"base_tree": base_tree, "files": {one["path"]: one["content"] for one in tree}}
    return Reply(201, {"sha": sha})


def create_commit(hub, message, tree, parents):
    if "contents" not in hub.permissions or tree not in hub.trees:
        return FORBIDDEN
    sha = f"{hub.next_id():040x}"
    hub.commits[sha] = {"message": message, "tree": hub.trees[tree], "parents": parents}
    return Reply(201, {"sha": sha})


def matching_refs(hub, beginning):
    """All that begin so, as GitHub does it."""
    found = [name for name in sorted(hub.branches) if name.startswith(unquote(beginning))]
    return Reply(200, [{"ref": f"refs/heads/{name}", "object": {"sha": hub.branches[name]}} for name in found])


def create_ref(hub, ref, sha):
    name = ref.removeprefix("refs/heads/")
    if "contents" not in hub.permissions:
        return FORBIDDEN
    if name in hub.branches:
        return refusal(422, "Reference already exists")
    hub.branches[name] = sha
    return Reply(201, {"ref": ref, "object": {"sha": sha}})


def move_ref(hub, name, sha, force=False):
    if "contents" not in hub.permissions:
        return FORBIDDEN
    name = unquote(name)
    if name not in hub.branches or not force:
        return refusal(422, "Update is not a fast forward")
    hub.branches[name] = sha
    return Reply(200, {"ref": f"refs/heads/{name}", "object": {"sha": sha}})


def list_pulls(hub, state, head, base=None, per_page="30", page="1"):
    owner, _, branch = head.partition(":")
    found = [
        pull
        for pull in hub.pulls.values()
        if (pull["state"], pull["head"]["ref"]) == (state, branch)
        and base in (None, pull.get("base"))
        and (pull["head"]["repo"] or {"full_name": ""})["full_name"].startswith(f"{owner}/")
    ]
    return paged(hub, f"{R}/pulls", found, int(per_page), int(page))


def create_pull(hub, title, head, base, body=""):
    if "pull-requests" not in hub.permissions:
        return FORBIDDEN
    number = hub.next_id()
    url = f"https://github.com/{REPOSITORY}/pull/{number}"
    made = pull_request(number, hub.branches[head], branch=head)
    hub.pulls[number] = made | {"title": title, "body": body, "base": base, "html_url": url}
    return Reply(201, hub.pulls[number])


def paged(hub, path, every, size, page):
    """A page, and the way to the next one."""
    more = f'<{hub.url}{path}?per_page={size}&page={page + 1}>; rel="next"'
    return Reply(200, every[(page - 1) * size : page * size], {"Link": more} if len(every) > page * size else {})


ROUTES = [
    ("POST", "/graphql", viewer),
    ("GET", rf"{R}/pulls/(\d+)", read_pull),
    ("GET", rf"{R}/issues/(\d+)/comments", list_comments),
    ("POST", rf"{R}/issues/(\d+)/comments", create_comment),
    ("PATCH", rf"{R}/issues/comments/(\d+)", edit_comment),
    ("DELETE", rf"{R}/issues/comments/(\d+)", delete_comment),
    ("POST", rf"{R}/statuses/([0-9a-f]+)", create_status),
    ("GET", rf"{R}/commits/([0-9a-f]+)/status", combined_status),
    ("POST", rf"{R}/deployments", create_deployment),
    ("GET", rf"{R}/deployments", list_deployments),
    ("POST", rf"{R}/deployments/(\d+)/statuses", create_deployment_status),
    ("GET", rf"{R}/deployments/(\d+)/statuses", list_deployment_statuses),
    ("GET", rf"{R}/commits/([0-9a-f]+)/pulls", pulls_of_commit),
    ("GET", rf"{R}/compare/([0-9a-f]+)\.\.\.([0-9a-f]+)", compare),
    ("GET", rf"{R}/issues", list_issues),
    ("POST", rf"{R}/issues", create_issue),
    ("PATCH", rf"{R}/issues/(\d+)", edit_issue),
    ("POST", rf"{R}/git/trees", create_tree),
    ("POST", rf"{R}/git/commits", create_commit),
    ("GET", rf"{R}/git/matching-refs/heads%2F(.+)", matching_refs),
    ("POST", rf"{R}/git/refs", create_ref),
    ("PATCH", rf"{R}/git/refs/heads%2F(.+)", move_ref),
    ("GET", rf"{R}/pulls", list_pulls),
    ("POST", rf"{R}/pulls", create_pull),
]
