"""A MarianMT model that was converted for CTranslate2: the same weights, several times as fast on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from photodesk.errors import TranslationError, require
from photodesk.text.translators.marian import BEAMS, LONGEST, MarianFiles, identity

ADVICE = (
    "make it with: ct2-transformers-converter --model Helsinki-NLP/opus-mt-de-en --output_dir opus-mt-de-en "
    "--copy_files source.spm target.spm tokenizer_config.json"
)


class CTranslate2(MarianFiles):
    """A converted model, run by CTranslate2 on the CPU.

    Args:
        name: the folder that the converter wrote, with source.spm and target.spm next to model.bin.

    Raises:
        TranslationError: the folder is not such a model.
        MissingExtra: CTranslate2 or sentencepiece is not installed.
    """

    limit = 511

    def __init__(self, name: str) -> None:
        engine = require("ctranslate2", "translate")
        folder = Path(name).expanduser()
        missing = [file for file in ("model.bin", "source.spm", "target.spm") if not (folder / file).is_file()]
        if missing:
            raise TranslationError(f"{folder} lacks {', '.join(missing)}; {ADVICE}")
        super().__init__(folder, name)
        try:
            self._engine = engine.Translator(str(folder), device="cpu")
        except (RuntimeError, ValueError) as error:
            raise TranslationError(f"CTranslate2 cannot read {folder}: {error}; {ADVICE}") from error
        files = sorted(path for path in folder.iterdir() if path.is_file())
        self.fingerprint = "ctranslate2-" + identity(files, BEAMS, LONGEST)

    def translate(self, sentences: Sequence[str], source: str = "") -> list[str]:
        """One translation per sentence, by beam search; TranslationError if the engine fails."""
        rows = [[*self.cut(sentence), "</s>"] for sentence in sentences]
        try:
            # less one: Transformers counts the end token
            answers = self._engine.translate_batch(rows, beam_size=BEAMS, max_decoding_length=LONGEST - 1)
        except (RuntimeError, ValueError) as error:
            raise TranslationError(f"CTranslate2 failed on {len(rows)} sentences: {error}") from error
        return [self.join(answer.hypotheses[0]) for answer in answers]
