"""What a person should know of what `switchback init` did, each with what to do about it."""

from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from ci_tools.adopt.files import RELEASE_POLICY
from ci_tools.adopt.origin import EXAMPLE, Origin
from ci_tools.adopt.repository import REQUIREMENTS, Repository
from ci_tools.adopt.sources import Save
from ci_tools.adopt.workflows import MODEL
from ci_tools.project import PACKAGE, document


def notes(repository: Repository, origin: Origin, wanted: Collection[str], kept: Collection[str]) -> list[str]:
    """In the order in which they matter.

    Args:
        repository: as it was found.
        origin: what CI installs this package from.
        wanted: paths of the files that it gets.
        kept: those of them that stay as they are, though they differ.
    """
    of_package = _of_package(origin) if REQUIREMENTS not in kept else ()
    return [*of_package, *map(_of_save, repository.training.saves), *_of_release(wanted)]


def _of_package(origin: Origin) -> Iterator[str]:
    if origin.unreachable:
        yield (
            f"{REQUIREMENTS} names {PACKAGE}{origin.requirement}, which has to exist: this one was installed from "
            f"{origin.unreachable}, and CI cannot. Fix: name there what CI can install, or remove the file and run "
            f"`switchback init --install {EXAMPLE}`"
        )
    if origin.unpushed:
        yield (
            f"{REQUIREMENTS} names commit {origin.unpushed[:12]} of {PACKAGE}, which no branch or tag that was fetched "
            "from GitHub holds, so that CI may not find it. Fix: push it"
        )


def _of_save(save: Save) -> str:
    if save.call.endswith("export"):
        fix = f"export in a stage of its own, from the weights in the record ({document('docs/adopt.md#4-release')})"
    else:
        place = f"run.path / '{PurePosixPath(save.path).stem}.safetensors'"
        fix = f"leave it out, the record keeps the weights; or add safetensors to it: `save_file(tensors, {place})`"
    return (
        f"{save.script}, line {save.line}: {save.call}(…, {save.path!r}) writes one file for all seeds, which neither "
        f"the cache nor the gates know. Fix: {fix}"
    )


def _of_release(wanted: Collection[str]) -> Iterator[str]:
    if RELEASE_POLICY not in wanted:
        yield (
            f"{RELEASE_POLICY} and the workflows that release are left out, since no stage of dvc.yaml writes {MODEL}. "
            f"To release, add one ({document('docs/adopt.md#4-release')}) and run `switchback init` again"
        )
