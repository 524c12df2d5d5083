"""What pip leaves of an installation of this package."""

import json

VERSION = "9.9.9"


def install(folder, *metadata, direct_url=None):
    """Make a folder for `sys.path` in which this package is installed.

    Args:
        folder: where; it is made.
        metadata: lines of METADATA beside name and version.
        direct_url: what PEP 610 notes of an installation that names its place; None: one by name, from an index.
    """
    notes = folder / f"switchback_ci-{VERSION}.dist-info"
    notes.mkdir(parents=True)
    head = ("Metadata-Version: 2.4", "Name: switchback-ci", f"Version: {VERSION}")
    (notes / "METADATA").write_text("\n".join([*head, *metadata]) + "\n")
    if direct_url is not None:
        (notes / "direct_url.json").write_text(json.dumps(direct_url))
    return str(folder)
