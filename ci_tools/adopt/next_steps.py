"""What a person still has to do after `switchback init`, in the words of their own script."""

from ci_tools.adopt.repository import REQUIREMENTS, Repository
from ci_tools.adopt.training import Training
from ci_tools.project import document

_LOOP = """\
let {script} record its run: ten lines at most, see {guide}
       from ci_tools.record import Recorder
       with Recorder(f"runs/seed-{{args.seed}}", params=vars(args), seed=args.seed) as run:
           train(args, run)                                    # all that trains
       run.watch(model, optimizer)                             # once both are made
       for epoch, batches in run.epochs(loader, args.epochs):  # in place of the loop over epochs
           for … in batches:                                   # in place of the loop over the loader
       run.record(loss)                                        # after backward, before the optimizer's step
       run.finish({{"accuracy": accuracy}})                      # at the end"""
_CALLBACK = {
    "lightning": "let {script} record its run: hand the callback of {loops} to lightning's Trainer",
    "transformers": "let {script} record its run: hand the callback of {loops} to transformers' Trainer",
}


def next_steps(repository: Repository) -> list[str]:
    """In the order in which they are done."""
    training = repository.training
    steps = [f"pip install --requirement {REQUIREMENTS}"]
    if not training.seed_flag:
        steps.append(f"give {training.script} an option --seed, and let every random number follow from it")
    if not training.records:
        steps.append(_recording(training))
    steps += [
        "switchback run: trains every seed of params.yaml, judges the runs, writes report/index.html",
        "name your metrics in gates.yaml, and commit everything, dvc.lock too",
    ]
    if repository.elsewhere:
        steps.append(f"your remote is {repository.elsewhere}: no workflows were made, since they are GitHub's")
    else:
        more = document("docs/workflows.md")
        steps.append(f"open a pull request: it is trained, judged and told in a comment ({more})")
    return steps


def _recording(training: Training) -> str:
    text = _LOOP if training.framework == "loop" else _CALLBACK[training.framework]
    return text.format(script=training.script, guide=document("docs/adopt.md"), loops=document("docs/loops.md"))
