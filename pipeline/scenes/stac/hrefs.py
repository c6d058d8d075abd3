"""Where a STAC document may point: never from the web into this machine, never out of the folder it lies in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from model.errors import InputError
from model.redaction import redact_uri
from pipeline.hosts import check_host
from pipeline.uris import REMOTE_SCHEMES, find_lack, is_remote, normalise_uri, read_file_uri

_VIRTUAL = re.compile(r"/vsi[a-z0-9_]+[/?]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a document lies, and how far its relative hrefs may lead."""

    href: str
    """The document: an absolute local path, or an http(s) or s3 URI."""
    root: str | None = None
    """Local folder that hrefs may not leave: that of the catalog, or of a single item; None for a remote document."""
    allow_private: bool = False
    """Whether hrefs of a remote document may lead to hosts of closed networks."""

    def may_name(self, href: str) -> bool:
        """Tell whether a remote href leads to a host that this document may name."""
        try:
            self.check_name(href, what="")
        except InputError:
            return False
        return True

    def check_name(self, href: str, *, what: str) -> None:
        """Refuse a remote href that leads to a host which this document may not name.

        Raises:
            InputError: it does.
        """
        if self.is_remote and not self.allow_private:
            check_host(href, named_by=self.href, what=what)

    @property
    def is_remote(self) -> bool:
        """Whether it lies on another machine."""
        return is_remote(self.href)


def locate_document(href: str, *, allow_private: bool = False) -> Place:
    """Find the place of the document that a user names, which may lie anywhere.

    Args:
        href: As the user names it.
        allow_private: Whether documents from the network may name hosts of closed networks.

    Raises:
        InputError: there is no such local file, or the scheme is neither http, https nor s3.
    """
    if is_remote(href):
        return Place(href=normalise_uri(href), allow_private=allow_private)
    path = (read_file_uri(href) or Path(href)).expanduser().absolute()
    if "://" in href and not href.lower().startswith("file://"):
        raise InputError(
            f"{redact_uri(href)} is of the kind {href.partition('://')[0][:20]}://",
            expected="a local path, or an http(s) or s3 URI",
            remedy="fetch the document first",
        )
    if (lack := find_lack(path)) is not None:
        raise InputError(
            f"{path} {lack}",
            expected="a STAC document in JSON",
            remedy="name the JSON file, such as catalog.json or item.json",
        )
    return Place(href=str(path), root=str(path.parent), allow_private=allow_private)


def resolve_href(href: str, *, place: Place, what: str) -> str:
    """Make an href of a document absolute and hold it to where the document may point.

    Args:
        href: As it stands in the document.
        place: Where the document lies.
        what: What the href stands for, to name it in errors.

    Returns:
        An absolute local path inside the place's root, or an http(s) or s3 URI.

    Raises:
        InputError: it leads from a remote document into this machine, out of the root of a local one, through one of
            GDAL's virtual file systems, to a host of a closed network, or has a scheme that is not read.
    """
    text = href.strip()
    scheme = _read_scheme(text)
    if scheme in REMOTE_SCHEMES and text[len(scheme) :].startswith("://") and text[len(scheme) + 3 :][:1] not in "/?#":
        name = normalise_uri(_check_virtual(text, what=what))
        place.check_name(name, what=what)
        return name
    if scheme not in {"", "file"}:
        raise InputError(
            f"{what} points to {redact_uri(text)}",
            expected="an http(s) or s3 URI, or a path below the document",
            remedy="fetch it, and name a copy of the document that points there",
        )
    if place.is_remote:
        return _resolve_remote(text, scheme=scheme, place=place, what=what)
    _check_virtual(text, what=what)
    return _resolve_local(text, place=place, what=what)


def _resolve_remote(text: str, *, scheme: str, place: Place, what: str) -> str:
    is_path = text.startswith(("/", "\\")) and not text.startswith("//")
    if scheme == "file" or is_path:
        raise InputError(
            f"{what} of a remote document points to {text}, a place on this machine",
            expected="an http(s) or s3 URI, or a path below the document",
            remedy="do not trust this document, or fetch it together with its files",
        )
    # urljoin knows s3 for no hierarchical scheme; http follows the same rules.
    base = urlsplit(place.href)
    try:
        joined = urlsplit(urljoin(urlunsplit(("http", base.netloc, base.path, "", "")), text))
    # Half an address of IPv6.
    except ValueError:
        joined = urlsplit("")
    if joined.netloc != base.netloc:
        raise InputError(
            f"{what} points to {redact_uri(text)}",
            expected="a whole URI with its scheme",
            remedy="correct the document",
        )
    return normalise_uri(_check_virtual(urlunsplit((base.scheme, *joined[1:])), what=what))


def _resolve_local(text: str, *, place: Place, what: str) -> str:
    root = Path(place.root or Path(place.href).parent).resolve()
    # Links are followed before it is decided: one inside the folder may lead out of it.
    path = Path(place.href).parent / (read_file_uri(text) or text)
    # No name of a file holds a zero.
    if "\0" in text or not (path := path.resolve()).is_relative_to(root):
        raise InputError(
            f"{what} points to {text}, which is outside {root}",
            expected="a path below the folder of the catalog, or of the item where it is named alone",
            remedy="name the catalog that both lie below and choose the item by its id, or move the files",
        )
    return str(path)


def _check_virtual(text: str, *, what: str) -> str:
    if _VIRTUAL.search(unquote(text).replace("\\", "/")):
        raise InputError(
            f"{what} points to {redact_uri(text)}, one of GDAL's virtual file systems",
            expected="a plain http(s) or s3 URI, or a path",
            remedy="fetch or unpack the file, and name a copy of the document that points there",
        )
    return text


def _read_scheme(text: str) -> str:
    head, separator, _ = text.partition(":")
    # One letter is a drive, and a path may hold a colon further on.
    return head.lower() if separator and len(head) > 1 and head.replace("+", "").isalnum() else ""
