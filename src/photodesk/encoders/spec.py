"""Names of encoders as values: a model and how to run it; `str` and `parse` are inverse.

openclip:ViT-H-14/laion2b_s32b_b79k
openclip:ViT-B-32@weights.safetensors, precision=bf16, device=cpu
text=openclip:xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k, image=openclip:ViT-H-14/laion2b_s32b_b79k
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from photodesk.errors import UsageError

OPTIONS = {
    "precision": ("fp32", "bf16", "fp16", "int8"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "compile": ("no", "yes"),
}
"""The options after a model's name, and their values; the first is the default."""

_NEXT = re.compile(rf",\s*(?=(?:text|image|{'|'.join(OPTIONS)})=)")


@dataclass(frozen=True, slots=True)
class Spec:
    """One model and how to run it.

    Args:
        family: the word before the colon, a key of `registry.FAMILIES`.
        model: in the family: `MODEL/TAG`, a name of the hub, or empty.
        path: a local file or folder, given after `@`.
        precision: of the weights and the arithmetic.
        device: auto takes the fastest available.
        compile: "yes" compiles the model with torch at its first call.
    """

    family: str
    model: str = ""
    path: Path | None = None
    precision: str = "fp32"
    device: str = "auto"
    compile: str = "no"

    def __str__(self) -> str:
        """Without defaults."""
        head = f"{self.family}:{self.model}" + (f"@{self.path}" if self.path else "")
        options = [f"{key}={getattr(self, key)}" for key, values in OPTIONS.items() if getattr(self, key) != values[0]]
        return ", ".join([head, *options])


def parse(name: str) -> dict[str, Spec]:
    """The models in a name by their part: `{"": …}` for one model, `{"text": …, "image": …}` for a pair.

    Options of a pair hold for both of its models.

    Raises:
        UsageError: an unknown option or value, or a pair that lacks a part.
    """
    models: dict[str, str] = {}
    options: dict[str, str] = {}
    for i, part in enumerate(_NEXT.split(name.strip())):
        key, equals, value = part.partition("=")
        if equals and key in ("text", "image"):
            models[key] = value.strip()
        elif equals and key in OPTIONS and i:
            if value.strip() not in OPTIONS[key]:
                raise UsageError(f"encoder {name!r}: {key}={value.strip()} is not one of {', '.join(OPTIONS[key])}")
            options[key] = value.strip()
        else:
            models[""] = part.strip()
    if set(models) not in ({""}, {"text", "image"}):
        raise UsageError(f"encoder {name!r}: a pair reads text=MODEL, image=MODEL")
    return {key: _one(head, name, options) for key, head in models.items()}


def _one(head: str, name: str, options: dict[str, str]) -> Spec:
    family, colon, rest = head.partition(":")
    if not colon and "@" in family:  # builtin@FILE
        family, _, path = head.partition("@")
        return Spec(family, "", Path(path), **options)
    if wrong := re.search(r",\s*(\w+)=[^,]*$", rest):
        raise UsageError(f"encoder {name!r}: no option {wrong[1]!r}; options are {', '.join(OPTIONS)}")
    model, _, path = rest.partition("@")
    return Spec(family, model.strip(), Path(path).expanduser() if path else None, **options)
