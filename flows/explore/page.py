"""The pages that the server shows: the report's with what is put into it, and policies that allow just that on top."""

from __future__ import annotations

import re
from html.parser import HTMLParser

STRICT_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'"
"""For a page that brings no policy: none of its own scripts run."""

CLOSED_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For everything that is no page."""

REVIEW_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""For the review page, which is the server's own."""

_POLICY_TAG = re.compile(r"<meta\b[^>]*content-security-policy[^>]*>", re.IGNORECASE)


def add_tools(html: str, *, nonce: str, has_chat: bool) -> tuple[str, str]:
    """Put the way to the review, and the chat box's script and style, into the report's page.

    A policy in the page and one in the header both hold, so the page's own moves into the header to be widened.

    Args:
        html: The page as it lies in the run.
        nonce: A word that nobody can guess, another one for every answer.
        has_chat: Whether there is a model to ask.

    Returns:
        The page, and the value of its header Content-Security-Policy.
    """
    head_end = re.search(r"<body\b", html, re.IGNORECASE)
    tag = _POLICY_TAG.search(html, 0, head_end.start() if head_end else len(html))
    policy = STRICT_POLICY
    if tag is not None:
        policy = _read_content(tag[0])
        html = html[: tag.start()] + html[tag.end() :]
    addition = (
        '<link rel="stylesheet" href="explore/chat.css"><a class="to-review" href="review">Review the changes</a>'
    )
    if has_chat:
        addition += f'<script src="explore/chat.js" nonce="{nonce}" defer></script>'
    end = html.lower().rfind("</body>")
    end = len(html) if end < 0 else end
    return html[:end] + addition + html[end:], widen_policy(policy, nonce=nonce)


def _read_content(tag: str) -> str:
    """Read the attribute `content` of a tag as a browser does."""

    class Reader(HTMLParser):
        content = ""

        def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
            self.content = dict(attrs).get("content") or ""

    reader = Reader()
    reader.feed(tag)
    return reader.content


def widen_policy(policy: str, *, nonce: str) -> str:
    """Allow the chat box's script by its nonce, its style, and requests to this server; all else stays as it was.

    Args:
        policy: Value of a Content-Security-Policy.
        nonce: That of the script.
    """
    directives: dict[str, list[str]] = {}
    for part in policy.split(";"):
        name, *sources = part.split() or [""]
        # Of a directive that stands there twice, browsers take the first.
        if name:
            directives.setdefault(name.lower(), sources)
    for name, source in (
        ("script-src", f"'nonce-{nonce}'"),
        ("style-src", "'self'"),
        ("img-src", "'self'"),
        ("connect-src", "'self'"),
    ):
        former = directives.get(name, directives.get("default-src", []))
        directives[name] = [*(each for each in former if each.lower() != "'none'" and each != source), source]
    directives.setdefault("base-uri", ["'none'"])
    directives.setdefault("form-action", ["'none'"])
    directives["frame-ancestors"] = ["'none'"]
    return "; ".join(" ".join([name, *sources]) for name, sources in directives.items())
