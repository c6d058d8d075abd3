"""Lists of a server that never end are given up."""

from __future__ import annotations

import http.server
import itertools
import threading
from collections.abc import Iterator

import pytest
from obstore.store import S3Store

from pipeline.storage.listing import EndlessListError, list_objects

CONTENT = "<Contents><Key>s{}.tif</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"


@pytest.fixture
def endless() -> Iterator[int]:
    """Port of a server whose every page says that there is another one; those of one bucket hold nothing."""
    pages = itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = next(pages)
            content = CONTENT.format(page) if "/full" in self.path else ""
            body = f"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{page}"
            body += f"</NextContinuationToken>{content}</ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("bucket", "limits", "problem"),
    [
        ("full", {"most": 60}, "more than 60 files"),
        ("empty", {"limit_s": 0.5}, "does not end within"),
    ],
)
def test_a_list_without_an_end_is_given_up(endless: int, bucket: str, limits: dict[str, int], problem: str) -> None:
    store = S3Store(
        bucket,
        endpoint=f"http://127.0.0.1:{endless}",
        skip_signature=True,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    with pytest.raises(EndlessListError, match=problem):
        list_objects(store, **limits)
