"""The text cleaning of open_clip's tokenizers, without torch, so that exported models do it as well; a test compares
the two."""

from __future__ import annotations

import html
import string

from photodesk.text_repair import encodable


def clean(text: str, kind: str) -> str:
    """A text as open_clip cleans it: mojibake repaired, HTML entities decoded, then by kind.

    Args:
        kind: "whitespace" collapses white space; "lower" also lower-cases; "canonicalize" also drops punctuation.
    """
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(encodable(text)))).strip()
    if kind == "canonicalize":
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    text = " ".join(text.split())
    return text if kind == "whitespace" else text.lower()
