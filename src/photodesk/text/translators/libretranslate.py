"""A translation service with LibreTranslate's interface, over HTTP. Its answers are untrusted."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import IO, Any
from urllib.parse import urlsplit

from photodesk.errors import TranslationError, UsageError

LARGEST = 4 << 20  # bytes of an answer; a request has at most 5,000 characters


class LibreTranslate:
    """A service at `URL/translate`. An API key is taken from `$LIBRETRANSLATE_API_KEY`.

    Args:
        url: http(s)://host[:port][/path]; without a user, a password or a query.
        target: the language to translate into.
        timeout: seconds for one request in total.

    Raises:
        UsageError: the address is not of that form.
    """

    source = ""
    limit = 1000
    budget = 5000

    def __init__(self, url: str, *, target: str = "en", timeout: float = 60) -> None:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        except ValueError:
            fine = False
        if not fine or "@" in parts.netloc or parts.query or parts.fragment:
            raise UsageError(
                f"{url!r} is no address of a translation service; expected http(s)://host[:port], the key in "
                "$LIBRETRANSLATE_API_KEY"
            )
        self.target = target
        self._address = url.rstrip("/") + "/translate"
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirect)
        # the service does not name its models; the address is all that identifies it
        self.fingerprint = f"libretranslate-{url.rstrip('/')}-{target}"

    def measure(self, sentence: str) -> int:
        """Characters of a sentence."""
        return len(sentence)

    def translate(self, sentences: Sequence[str], source: str = "") -> list[str]:
        """One translation per sentence, in one request."""
        question = {"q": list(sentences), "source": source or "auto", "target": self.target, "format": "text"}
        if key := os.environ.get("LIBRETRANSLATE_API_KEY"):
            question["api_key"] = key
        answer = self._ask(json.dumps(question).encode())
        try:
            texts = json.loads(answer)["translatedText"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._bad(f"the answer is not JSON with translatedText but {answer[:80]!r}") from None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self._bad("translatedText is not a list of texts, as for a list of questions")
        if len(texts) != len(sentences):
            raise self._bad(f"{len(texts)} translations came for {len(sentences)} sentences")
        return texts

    def _ask(self, body: bytes) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - __init__ lets http(s) through only
            self._address, body, {"Content-Type": "application/json", "Accept": "application/json"}
        )
        deadline = time.monotonic() + self._timeout
        try:
            with self._opener.open(request, timeout=self._timeout) as stream:
                return self._read(stream, deadline)
        except urllib.error.HTTPError as error:
            said = b""
            with error, contextlib.suppress(OSError, http.client.HTTPException):
                said = error.read(300)
            raise self._bad(f"HTTP {error.code}: {said.decode('utf-8', 'replace').strip() or error.reason}") from None
        except (OSError, ValueError, urllib.error.URLError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise self._bad(f"no answer within {self._timeout:g} s") from None
            raise self._bad(str(reason) or type(error).__name__) from None
        except TranslationError:
            raise
        except Exception as error:  # http.client: a broken status line, a body cut short
            raise self._bad(f"{type(error).__name__}: {error}") from None

    def _read(self, stream: IO[bytes], deadline: float) -> bytes:
        read: Any = getattr(stream, "read1", stream.read)
        parts, size = [], 0
        while part := read(65536):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise self._bad(f"the answer is longer than {LARGEST >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(parts)

    def _bad(self, what: str) -> TranslationError:
        return TranslationError(f"translation service {self._address}: {what}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: they would send the texts and the key to another host."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        raise TranslationError(
            f"translation service {req.full_url}: redirects to {newurl}; give that address if you trust it"
        )
