"""Artifacts, by the rules of actions/upload-artifact and actions/download-artifact.

Hidden files are left out unless asked for, empty folders and permissions are lost, and the paths inside begin below the
deepest folder that all search paths share.
"""

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path


class Refused(Exception):
    """What the action would end with."""


class Artifacts:
    """Those of one run."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def names(self):
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def upload(self, name, workspace, paths, *, if_no_files_found="warn", overwrite=False, include_hidden_files=False):
        """Keep files under a name.

        Returns:
            How many.

        Raises:
            Refused: there are none and that is an error, or the name is taken.
        """
        lines = [line.strip() for line in paths.splitlines() if line.strip()]
        wanted = [workspace / line for line in lines if not line.startswith("!")]
        unwanted = [str(workspace / line[1:]) for line in lines if line.startswith("!")]
        files = {file for one in wanted for file in _found(one)}
        files = {file for file in files if not any(fnmatch(str(file), one) for one in unwanted)}
        if not include_hidden_files:
            files = {file for file in files if not _hidden(file.relative_to(workspace))}
        if not files:
            if if_no_files_found == "error":
                raise Refused(f"no files were found with the path {paths!r}")
            return 0
        target = self.folder / name
        if target.exists():
            if not overwrite:
                raise Refused(f"an artifact with the name {name} is there already")
            shutil.rmtree(target)
        root = _root([_search_root(one) for one in wanted], files)
        for file in files:
            place = target / file.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        return len(files)

    def download(self, name, to):
        """Put an artifact into a folder.

        Raises:
            Refused: there is none of that name.
        """
        source = self.folder / name
        if not source.is_dir():
            raise Refused(f"no artifact {name!r} among {self.names()}")
        shutil.copytree(source, to, dirs_exist_ok=True, copy_function=shutil.copyfile)


def _found(path):
    """The files that a search path stands for: with wildcards, a folder, or a file."""
    start = _search_root(path)
    matched = [path] if start == path else list(start.glob(str(path.relative_to(start))))
    for one in matched:
        if one.is_dir():
            yield from (Path(folder, file) for folder, _, files in os.walk(one, followlinks=True) for file in files)
        elif one.is_file():
            yield one


def _search_root(path):
    """The part before the first wildcard."""
    parts = []
    for part in path.parts:
        if any(sign in part for sign in "*?["):
            break
        parts.append(part)
    return Path(*parts)


def _root(searched, files):
    if len(searched) > 1:
        return Path(os.path.commonpath(searched))
    return searched[0].parent if files == {searched[0]} else searched[0]


def _hidden(path):
    return any(part.startswith(".") for part in path.parts)
