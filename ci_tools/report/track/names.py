"""Names from a record, made fit for other programs: a layer, metric or branch name may hold anything."""

import hashlib

LONGEST = 120
_DIGEST = 8


def plain(name: str) -> str:
    """A name of at most 120 printable characters, without line breaks, control, bidirectional or half characters.

    Laws: a name that is so already stays as it is; different names stay different (up to 32 bits of SHA-256).
    """
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    if printable == name and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{printable[: LONGEST - 1 - _DIGEST]}~{digest}"
