"""Text on its way to a tokenizer: what an untrusted text may hold that a tokenizer may not, and the cleaning that
models were trained with.

The cleaning is that of open_clip's tokenizers, without torch, so that exported models do it as well; a test compares
the two.
"""

from __future__ import annotations

import html
import string


def plain(text: str) -> str:
    """The text with halves of surrogate pairs, which no encoding has, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean(text: str, kind: str) -> str:
    """A text as open_clip cleans it: mojibake repaired, HTML entities read, then by kind.

    Args:
        kind: "whitespace" makes one space of many; "lower" also takes lower case; "canonicalize" also drops
            punctuation.
    """
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(plain(text)))).strip()
    if kind == "canonicalize":
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    text = " ".join(text.split())
    return text if kind == "whitespace" else text.lower()
