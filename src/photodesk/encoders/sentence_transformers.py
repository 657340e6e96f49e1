"""Text towers of sentence-transformers, trained to imitate the text tower of a CLIP model in many languages.

`text=sentence:sentence-transformers/clip-ViT-B-32-multilingual-v1, image=openclip:ViT-B-32-quickgelu/openai`
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from photodesk.encoders import checkpoint, hf_hub
from photodesk.encoders.base import TextTower
from photodesk.encoders.spec import Spec
from photodesk.encoders.text_cleanup import plain
from photodesk.encoders.torch_runner import Runner
from photodesk.encoders.transformers_clip import quietly
from photodesk.errors import EncoderError, UsageError, require
from photodesk.files import read_text
from photodesk.types import FloatArray

EXTRA = "sentence"


class Texts(TextTower):
    """A sentence-transformers model as a text tower. See `base.TextTower`."""

    batch = 64

    def __init__(self, model: Any, runner: Runner, fingerprint: str, dim: int) -> None:
        self.model, self.runner, self.fingerprint, self.dim = model, runner, fingerprint, dim
        special = int(model.tokenizer.num_special_tokens_to_add())
        self.context = max(0, int(model.max_seq_length or 0) - special)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        words = [plain(text) for text in texts]
        options = {"batch_size": self.batch, "show_progress_bar": False, "convert_to_tensor": True}
        return self.runner.rows(lambda: self.model.encode(words, **options))

    def tokens(self, text: str) -> list[str]:
        """The pieces that the model reads of `text`."""
        pieces: list[str] = self.model.tokenizer.tokenize(plain(text))
        return [piece.removeprefix("##") for piece in pieces]


def load(spec: Spec) -> tuple[Texts, str]:
    """A text tower, and where it runs.

    Raises:
        UsageError: no model is named.
        EncoderError: a file is missing or damaged, or the model brings code of its own, which is never run.
        MissingExtra: sentence-transformers is not installed.
    """
    runner = Runner(spec, EXTRA)
    library, transformers = require("sentence_transformers", EXTRA), require("transformers", EXTRA)
    name = str(spec.path) if spec.path else spec.model
    if not name:
        raise UsageError(
            "sentence: names no model; say sentence:sentence-transformers/clip-ViT-B-32-multilingual-v1 or "
            "sentence:FOLDER"
        )
    patterns = (*hf_hub.CONFIGS, *hf_hub.TENSORS, "*/pytorch_model.bin")
    folder = hf_hub.folder(
        name, patterns=patterns, needed=("modules.json", "*.safetensors"), instead="text=sentence:FOLDER", extra=EXTRA
    )
    hf_hub.check_no_code(folder, *filter(Path.is_dir, folder.iterdir()))
    with checkpoint.reading(f"{folder} cannot be read as a model"):
        modules = json.loads(read_text(folder / "modules.json"))
        foreign = [module["type"] for module in modules if not str(module["type"]).startswith("sentence_transformers.")]
        if foreign:
            raise EncoderError(f"{name} brings code of its own ({foreign[0]}), which photodesk does not run")
        with quietly(transformers):
            model = library.SentenceTransformer(
                str(folder),
                device=runner.device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": runner.dtype},
            )
        model = model.to(dtype=runner.dtype).eval()
        if spec.compile == "yes":
            model.forward = runner.function(model.forward)
    files = [path for path in sorted(Path(folder).rglob("*")) if path.suffix in checkpoint.SUFFIXES]
    digest = checkpoint.remembered(
        files, f"sentence {runner.precision}", lambda: {"texts": checkpoint.tensor_digest(model.state_dict())}
    )
    identity = checkpoint.short(
        digest["texts"], modules, checkpoint.word_table(model.tokenizer), model.max_seq_length, runner.precision
    )
    rows = runner.rows(lambda: model.encode(["a"], show_progress_bar=False, convert_to_tensor=True))
    return Texts(model, runner, f"sentence-text-{identity}", rows.shape[1]), str(runner)
