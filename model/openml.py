"""Data sets of openml.org over its REST API: a search, a description, one file; then the cache answers."""

import hashlib
import http.client
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ci_tools.errors import DataError, DependencyUnavailable
from model.frame import Frame
from model.params import OpenML, Table
from model.table import frame_of, parse_csv, parse_parquet

CACHE = Path(".switchback/openml")
_ATTRIBUTE = re.compile(r"""@attribute\s+('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S+)\s+(.+)""", re.IGNORECASE)


def read_openml(params: OpenML, cache: Path = CACHE) -> Frame:
    """Fetch the data set once, then read it from `cache`.

    Raises:
        DependencyUnavailable: the server does not answer, and the data set is not in the cache.
        DataError: there is no such data set, its file is damaged, or a column breaks a rule.
    """
    folder = (
        cache / urlsplit(params.server).netloc.replace(":", "_") / f"{quote(params.name, safe='')}-{params.version}"
    )
    # The description is written last, so that it vouches for the file beside it.
    if not (folder / "description.json").is_file():
        _fetch(params, folder)
    description = json.loads((folder / "description.json").read_text(encoding="utf-8"))
    dropped = [description.get("row_id_attribute"), description.get("ignore_attribute")]
    exclude = {name for entry in dropped if entry for name in (entry if isinstance(entry, list) else entry.split(","))}
    path = folder / _file_name(description)
    if path.suffix == ".parquet":
        table, kinds = parse_parquet(path), dict[str, str]()
    else:
        table, kinds = _parse_arff(path)
    roles = Table(
        path=str(path),
        label=params.label,
        time=params.time,
        numeric=tuple(name for name, kind in kinds.items() if kind.split()[0] in ("numeric", "real", "integer")),
        categorical=tuple(name for name, kind in kinds.items() if kind.startswith("{")),
        exclude=tuple(sorted(exclude & set(table.column_names))),
    )
    return frame_of(table, roles, f"openml {params.name} version {params.version}")


def _fetch(params: OpenML, folder: Path) -> None:
    api = f"{params.server.rstrip('/')}/api/v1/json/data"
    search = f"{api}/list/data_name/{quote(params.name, safe='')}/data_version/{params.version}/limit/2"
    try:
        listing = _get(search, params)
        if listing is None:
            raise DataError(
                f"no data set {params.name!r} version {params.version}",
                where=params.server,
                fix="correct data.openml.name and data.openml.version",
            )
        number = json.loads(listing)["data"]["dataset"][0]["did"]
        description = json.loads(_get(f"{api}/{number}", params) or b"")["data_set_description"]
        name = _file_name(description)
        url = description["parquet_url" if name.endswith(".parquet") else "url"]
    except (ValueError, LookupError, TypeError):
        raise _unavailable("answers with something else than its JSON", params.server) from None
    content = _get(url, params) or b""
    md5, expected = hashlib.md5(content, usedforsecurity=False).hexdigest(), description.get("md5_checksum")
    if name.endswith(".arff") and expected and md5 != expected:
        raise DataError(f"the file has MD5 {md5}, not {expected}", where=url, fix="try again; the download was damaged")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for target, data in ((folder / name, content), (folder / "description.json", json.dumps(description).encode())):
            partial = target.with_name(f"{target.name}.tmp")
            partial.write_bytes(data)
            partial.replace(target)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=folder, fix="free space there") from None


def _file_name(description: dict[str, Any]) -> str:
    """ARFF where it is dense, since it states which columns are nominal; else Parquet."""
    if str(description.get("format", "")).lower() == "arff":
        return "data.arff"
    if description.get("parquet_url"):
        return "data.parquet"
    raise DataError(
        f"format {description.get('format')!r} is not supported",
        where=f"openml {description.get('name')}",
        rule="a data set is dense ARFF or Parquet",
        fix="download it, convert it to CSV, and set data.source to `table`",
    )


def _get(url: str, params: OpenML) -> bytes | None:
    """The answer's body; None for status 412, OpenML's way to say that nothing was found."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url!r} is not a web address", where="data.openml.server", fix="begin it with https://")
    try:
        with urllib.request.urlopen(url, timeout=params.timeout_seconds) as response:  # noqa: S310 - checked above
            body: bytes = response.read()
            return body
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 412:
            return None
        raise _unavailable(f"answers with status {error.code}", url) from None
    except (OSError, http.client.HTTPException) as error:
        raise _unavailable(f"does not answer ({getattr(error, 'reason', error)})", url) from None


def _unavailable(trouble: str, url: str) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"OpenML {trouble}",
        where=url,
        fix="check the network and data.openml.server, or set data.source to `simulated` or `table`",
    )


def _parse_arff(path: Path) -> tuple[Any, dict[str, str]]:
    """Columns as text, and the declared type of each."""
    kinds: dict[str, str] = {}
    lines = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for content in file:
            lines += 1
            if content.lower().startswith("@data"):
                break
            match = _ATTRIBUTE.match(content)
            if match:
                name = match[1][1:-1].replace("\\", "") if match[1][0] in "'\"" else match[1]
                kinds[name] = match[2].strip().lower()
        else:
            raise DataError("there is no @data section", where=path, fix="delete the file, it will be fetched again")
    return parse_csv(path, list(kinds), skip=lines, quote="'", escape="\\"), kinds
