"""Markdown as GitHub's parser sees it: CommonMark with tables, strikethrough and raw HTML."""

import re

from markdown_it import MarkdownIt

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
LINKED = re.compile(
    r"@[A-Za-z0-9]|#[0-9]|\bGH-[0-9]|[a-z]://|\bwww\.[a-z0-9]|:[a-z0-9_+-]+:|\b[0-9a-f]{7,40}\b", re.IGNORECASE
)
"""What GitHub turns into mentions, references, links and pictures where it stands outside of code."""
OURS = re.compile(r"<details( open)?><summary>[^<>`@#]*</summary>\n?|</details>\n?")
"""The only HTML that a comment holds."""


def tokens(text):
    """All tokens in order, those inside a line among them."""
    for token in GITHUB.parse(text):
        if token.children is None:
            yield token
        else:
            yield from token.children


def skeleton(text):
    """Everything but what stands in inline code: types, tags, attributes, and the words."""
    return [
        (token.type, token.tag, dict(token.attrs), "" if token.type == "code_inline" else token.content)
        for token in tokens(text)
    ]


def shape(text):
    """The same without any words."""
    return [(token.type, token.tag, sorted(token.attrs)) for token in tokens(text)]


def names(text):
    """What stands in inline code."""
    return [token.content for token in tokens(text) if token.type == "code_inline"]


def words(text):
    """What stands outside of code."""
    return [token.content for token in tokens(text) if token.type == "text"]
