"""MarianMT through Hugging Face Transformers, from the hub's cache or a folder; nothing is ever downloaded here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from photodesk.errors import TranslationError, require
from photodesk.files import open_regular, read_text

BEAMS = 4
LONGEST = 256  # tokens that a translation may have; a model that repeats itself stops there

_CODES = {
    "deu": "de",
    "eng": "en",
    "fra": "fr",
    "nld": "nl",
    "ita": "it",
    "spa": "es",
    "por": "pt",
    "pol": "pl",
    "rus": "ru",
    "ukr": "uk",
    "tur": "tr",
}


class Pieces:
    """A Marian model's SentencePiece vocabulary, as MarianTokenizer reads it but without the optional punctuation
    rules.

    Args:
        folder: with `source.spm` and `target.spm`.

    Raises:
        TranslationError: a file is missing or damaged.
        MissingExtra: sentencepiece is not installed.
    """

    def __init__(self, folder: Path) -> None:
        processor = require("sentencepiece", "translate").SentencePieceProcessor
        try:
            self._source, self._target = (
                processor(model_file=str(folder / name)) for name in ("source.spm", "target.spm")
            )
        except (OSError, RuntimeError) as error:
            raise TranslationError(
                f"cannot read source.spm and target.spm in {folder}: {error}; copy both from the model's folder"
            ) from None

    def cut(self, sentence: str) -> list[str]:
        """The pieces of a sentence, without the end sign."""
        pieces: list[str] = self._source.encode(sentence, out_type=str)
        return pieces

    def join(self, pieces: Sequence[str]) -> str:
        """The text of target pieces."""
        text: str = self._target.decode([piece for piece in pieces if piece not in ("</s>", "<pad>", "<unk>")])
        return text.replace("▁", " ").strip()


def languages(folder: Path, name: str) -> tuple[str, str]:
    """Source and target language of a model, from its tokenizer_config.json or the end of its name (`…-de-en`).

    Raises:
        TranslationError: neither says.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        config = json.loads(read_text(folder / "tokenizer_config.json"))
        source, target = (str(config.get(key) or "") for key in ("source_lang", "target_lang"))
        if source and target:
            return _CODES.get(source, source), _CODES.get(target, target)
    if found := re.search(r"(?:^|[-_/])([a-z]{2})-([a-z]{2})$", name.rstrip("/")):
        return found[1], found[2]
    raise TranslationError(
        f"cannot tell which languages {name} translates; end the folder's name in -de-en or the like"
    )


def identity(files: Sequence[Path], *options: object) -> str:
    """The content of the files and the options, as 16 hex digits."""
    state = hashlib.sha256(repr(options).encode())
    for file in files:
        with open_regular(file) as stream:
            state.update(hashlib.file_digest(stream, "sha256").digest())
    return state.hexdigest()[:16]


class Marian:
    """A MarianMT model run by PyTorch.

    Args:
        name: a model of the hub, such as `Helsinki-NLP/opus-mt-de-en`, or a folder with its files.

    Raises:
        TranslationError: the model is not on this machine or its files do not fit together.
        MissingExtra: Transformers, PyTorch or sentencepiece is not installed.
    """

    def __init__(self, name: str) -> None:
        self._torch, self._transformers = require("torch", "translate"), require("transformers", "translate")
        folder = _folder(name)
        self._pieces = Pieces(folder)
        self.source, self.target = languages(folder, name)
        try:
            with _quiet(self._transformers):
                self._vocabulary: dict[str, int] = json.loads(read_text(folder / "vocab.json"))
                self._model: Any = self._transformers.MarianMTModel.from_pretrained(
                    folder, local_files_only=True
                ).eval()
                self._end, self._unknown, self._pad = (self._vocabulary[sign] for sign in ("</s>", "<unk>", "<pad>"))
        except Exception as error:
            raise TranslationError(
                f"{folder} is not a whole MarianMT model: {type(error).__name__}: {str(error)[:300]}"
            ) from error
        self._piece_of = {number: piece for piece, number in self._vocabulary.items()}
        self.limit = int(self._model.config.max_position_embeddings) - 1
        self._longest = min(LONGEST, self.limit)
        self.budget = 4096
        weights = sorted(path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern))
        files = [folder / file for file in ("source.spm", "target.spm", "vocab.json", "config.json")] + weights
        self.fingerprint = "marian-" + identity(files, BEAMS, self._longest)

    def measure(self, sentence: str) -> int:
        """Tokens of a sentence."""
        return len(self._pieces.cut(sentence))

    def translate(self, sentences: Sequence[str], source: str = "") -> list[str]:
        """One translation per sentence, by beam search; TranslationError if the model fails."""
        torch = self._torch
        rows = [
            [self._vocabulary.get(piece, self._unknown) for piece in self._pieces.cut(s)] + [self._end]
            for s in sentences
        ]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        for line, row in zip(ids, rows, strict=True):
            line[: len(row)] = torch.tensor(row)
        lengths = torch.tensor([[len(row)] for row in rows])
        options = {
            "num_beams": BEAMS,
            "min_new_tokens": 1,
            "do_sample": False,
            "max_new_tokens": self._longest,
            "max_length": None,
            "early_stopping": True,
        }
        try:
            with torch.inference_mode(), _quiet(self._transformers):
                out = self._model.generate(
                    input_ids=ids, attention_mask=(torch.arange(width) < lengths).long(), **options
                )
        except (RuntimeError, IndexError) as error:
            raise TranslationError(f"the model failed on {len(rows)} sentences: {error}") from error
        return [self._pieces.join([self._piece_of.get(number, "<unk>") for number in row]) for row in out.tolist()]


def _folder(name: str) -> Path:
    """Where the model's files are: the folder itself, or the hub's cache."""
    path = Path(name).expanduser()
    if not path.is_dir():
        hub = require("huggingface_hub", "translate")
        try:
            path = Path(hub.snapshot_download(name, local_files_only=True))
        except (OSError, ValueError) as error:  # not in the cache, or no name of the hub
            raise TranslationError(
                f"the translation model {name} is not on this machine and photodesk downloads none by itself; run: hf "
                f"download {name}; or put "
                "config.json, source.spm, target.spm, vocab.json and model.safetensors (or pytorch_model.bin) in a "
                "folder and say marian:FOLDER"
            ) from error
    wanted = ["config.json", "source.spm", "target.spm", "vocab.json"]
    missing = [file for file in wanted if not (path / file).is_file()]
    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        missing.append("model.safetensors or pytorch_model.bin")
    if missing:
        raise TranslationError(f"{path} lacks {', '.join(missing)} of the model {name}; put the model's own file there")
    return path


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Hold back the library's advice and progress bars; errors still come."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
