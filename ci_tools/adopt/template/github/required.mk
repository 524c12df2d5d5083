# `required` fails unless every job in NEEDS, GitHub's JSON, succeeded; those named in MAY_SKIP may have been skipped.
.PHONY: required
required:
	@python3 -c 'import json, os, sys; \
	needs, may = json.loads(os.environ["NEEDS"]), os.environ.get("MAY_SKIP", "").split(); \
	bad = [name + ": " + job["result"] for name, job in needs.items() \
	if job["result"] != "success" and not (job["result"] == "skipped" and name in may)]; \
	sys.exit("\n".join(bad) or None)'
