"""How a run ended, in the words of run.json: `status` and `reason`, as docs/record.md lists them."""

from ci_tools.errors import SwitchbackError, TrainingFailed

NOT_FINISHED = "the script ended without run.finish(…)"


def ending(error: BaseException | None, step: int, *, finished: bool, replaying: bool) -> tuple[str, str]:
    """Status and reason of a run that is left.

    Law: the reason is empty where, and only where, the status is `finished`.

    Args:
        error: what the run is left by; None where nothing was raised.
        step: optimizer steps completed.
        finished: whether the script said so.
        replaying: whether this is the scratch record of a replayed segment.
    """
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "replayed" if replaying else "preempted", f"stopped at step {step}"
    if isinstance(error, TrainingFailed):
        return "failed", str(error)
    if error is not None:
        return "crashed", str(error) if isinstance(error, SwitchbackError) else repr(error)
    return ("finished", "") if finished else ("crashed", NOT_FINISHED)
