"""manifest.json: what a bundle holds, where it comes from, and who let it pass.

A bundle's digest is the SHA-256 of its manifest's bytes: it names every byte of the bundle but the signature.
"""

from typing import Annotated, Literal

from pydantic import Field

from ci_tools.config import Config

MANIFEST, MODEL, CARD, SIGNATURE = "manifest.json", "model.onnx", "README.md", "model.sig"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip
"""Open Inference Protocol's names of element types."""


class File(Config):
    """One file of the bundle."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class Tensor(Config):
    """One input or output of the model."""

    name: str
    datatype: Datatype
    shape: tuple[Annotated[int, Field(ge=-1)], ...]
    """-1: free, as the batch axis is."""


class Decision(Config):
    """What is done with an answer: yes where `output` ≥ `threshold`."""

    output: str
    """Name of an output with one value in [0, 1] per row."""
    threshold: Annotated[float, Field(ge=0, le=1)]


class Override(Config):
    """A verdict that would have kept the bundle from being packed, and who let it pass."""

    gate: str
    outcome: str
    by: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class Manifest(Config):
    """manifest.json, whole."""

    schema_version: Literal[1] = 1
    name: str
    """Of the model, such as the repository's."""
    created: str
    """ISO 8601, UTC: when the model was judged."""
    git_commit: str
    """Of the verdicts; the model card names that of the training, where it differs. Empty without git."""
    git_dirty: bool = False
    """Whether tracked files differed from it."""
    params_digest: str
    record_digest: str
    """SHA-256 of the run.json of the record that the weights come from, which holds those of the record's files."""
    verdicts_digest: str
    """SHA-256 of gates/verdicts.json."""
    files: dict[str, File]
    """By path inside the bundle: every file but the manifest and the signature."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    decision: Decision | None = None
    overrides: tuple[Override, ...] = ()
