"""A bundle that comes over the network: a tar archive of its files, unpacked for the registry to check."""

import tarfile
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from ci_tools.release.api.answers import Refused
from ci_tools.release.bundle.folder import LARGEST, MIB, MOST_FILES

TYPE = "application/x-tar"
LARGEST_BODY = LARGEST + 64 * MIB
"""Bytes of an archive: a model and everything beside it."""
_FIX = "send it with `switchback release FOLDER --url URL`"


async def unpacked(request: Request, scratch: Path) -> Path:
    """The folder of the bundle in the request's body, below `scratch`.

    Raises:
        Refused: 413 too large, 415 no archive by its type, 422 not the plain files of a bundle.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != TYPE:
        raise Refused(415, f"the body is not {TYPE}", _FIX)
    archive, received = scratch / "bundle.tar", 0
    with archive.open("wb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > LARGEST_BODY:
                raise Refused(413, f"the body is larger than {LARGEST_BODY:,} bytes", "", {"connection": "close"})
            await run_in_threadpool(file.write, chunk)
    return await run_in_threadpool(_unpack, archive, scratch / "bundle")


def _unpack(archive: Path, folder: Path) -> Path:
    """Plain files only, none in a folder: what else a tar can hold would write where it likes."""
    folder.mkdir()
    try:
        with tarfile.open(archive, "r:") as tar:
            for number, member in enumerate(tar):
                name = member.name
                plain = member.isreg() and not member.issparse()  # a few sparse bytes may stand for terabytes
                if number >= MOST_FILES or not plain or "/" in name or name in ("", ".", ".."):
                    raise Refused(422, "the archive holds more than the files of a bundle", _FIX)
                tar.extract(member, folder, set_attrs=False, filter="data")
    except (tarfile.TarError, EOFError, ValueError):
        raise Refused(422, "the body is no tar archive", _FIX) from None
    return folder
