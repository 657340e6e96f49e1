"""Text towers of sentence-transformers, trained to imitate the text tower of a CLIP model in many languages.

`text=sentence:sentence-transformers/clip-ViT-B-32-multilingual-v1, image=openclip:ViT-B-32-quickgelu/openai`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from photodesk.encoders import checkpoint, hf_hub
from photodesk.encoders.spec import Spec
from photodesk.encoders.torch_runner import Runner, TorchTexts
from photodesk.errors import EncoderError, UsageError, quiet, require
from photodesk.files import read_text
from photodesk.text_repair import encodable
from photodesk.types import FloatArray

EXTRA = "sentence"


class Texts(TorchTexts):
    """A sentence-transformers model as a text tower."""

    def __init__(self, model: Any, runner: Runner, fingerprint: str, dim: int) -> None:
        super().__init__(model, runner, fingerprint, dim)
        self.context = max(0, int(model.max_seq_length or 0) - int(model.tokenizer.num_special_tokens_to_add()))

    def rows(self, texts: list[str]) -> FloatArray:
        """(n, dim) float32 unit rows."""
        options = {"batch_size": self.batch, "show_progress_bar": False, "convert_to_tensor": True}
        return self.runner.rows(lambda: self.model.encode(texts, **options))

    def tokens(self, text: str) -> list[str]:
        """The tokens of `text`."""
        tokens: list[str] = self.model.tokenizer.tokenize(encodable(text))
        return [token.removeprefix("##") for token in tokens]


def load(spec: Spec) -> tuple[Texts, str]:
    """A text tower, and its device and precision.

    Raises:
        UsageError: no model is named.
        EncoderError: a file is missing or damaged, or the model contains code, which is never run.
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
        with quiet(transformers):
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
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in checkpoint.SUFFIXES]
    digest = checkpoint.remembered(
        files, f"sentence {runner.precision}", lambda: {"texts": checkpoint.tensor_digest(model.state_dict())}
    )
    identity = checkpoint.short(
        digest["texts"], modules, checkpoint.word_table(model.tokenizer), model.max_seq_length, runner.precision
    )
    rows = runner.rows(lambda: model.encode(["a"], show_progress_bar=False, convert_to_tensor=True))
    return Texts(model, runner, f"sentence-text-{identity}", rows.shape[1]), str(runner)
