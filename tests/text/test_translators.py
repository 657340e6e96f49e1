"""The engines: a MarianMT of random weights made here, its CTranslate2 twin, and a service on this machine that
misbehaves."""

import io
import json
import shutil
import socket
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from photodesk.errors import MissingExtra, TranslationError, UsageError
from photodesk.text import translators
from photodesk.text.translators import Translator, ctranslate2, libretranslate, marian

GERMAN = [
    "der Fluss steigt in Köln",
    "die Polizei sucht Zeugen in Dresden",
    "das Wasser sinkt, sagt der Minister",
    "am Montag regnet es",
]
ENGLISH = [
    "the river rises in Cologne",
    "police look for witnesses",
    "the water falls, says the minister",
    "on Monday it rains",
]


def make_marian(folder):
    """Files as in a MarianMT folder of the hub, tiny, with weights from a fixed seed that love the end sign."""
    spm, torch, transformers = (pytest.importorskip(name) for name in ("sentencepiece", "torch", "transformers"))
    folder.mkdir()
    vocabulary = {"</s>": 0, "<unk>": 1}
    for side, lines in (("source", GERMAN), ("target", ENGLISH)):
        model = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines * 8), model_writer=model, vocab_size=80, hard_vocab_limit=False, minloglevel=2
        )
        (folder / f"{side}.spm").write_bytes(model.getvalue())
        pieces = spm.SentencePieceProcessor(model_proto=model.getvalue())
        for i in range(pieces.get_piece_size()):
            if not pieces.is_control(i) and not pieces.is_unknown(i):
                vocabulary.setdefault(pieces.id_to_piece(i), len(vocabulary))
    size = vocabulary["<pad>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "deu", "target_lang": "eng"}))
    torch.manual_seed(5)
    config = transformers.MarianConfig(
        vocab_size=size + 1,
        decoder_vocab_size=size + 1,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=512,
        pad_token_id=size,
        eos_token_id=0,
        decoder_start_token_id=size,
        forced_eos_token_id=0,
        scale_embedding=True,
        bad_words_ids=[[size]],
        init_std=0.5,
    )
    model = transformers.MarianMTModel(config)
    model.final_logits_bias[0, 0] = 6.0
    with marian._quiet(transformers):
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def marian_folder(torch, tmp_path_factory):
    return make_marian(tmp_path_factory.mktemp("models") / "tiny-de-en")


@pytest.fixture(scope="session")
def converted_folder(marian_folder, tmp_path_factory):
    engine = pytest.importorskip("ctranslate2")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models") / "ct2"
    with warnings.catch_warnings(), marian._quiet(transformers):
        warnings.simplefilter("ignore")  # "Recommended: pip install sacremoses."
        engine.converters.TransformersConverter(
            str(marian_folder), copy_files=["source.spm", "target.spm", "tokenizer_config.json"]
        ).convert(str(folder))
    return folder


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Random weights find no end by themselves; real sentences rarely have 256 tokens."""
    translators.load.cache_clear()
    for module in (marian, ctranslate2):
        monkeypatch.setattr(module, "LONGEST", 24)


def test_marian_translates_alone_as_in_a_batch(marian_folder, capfd):
    model = translators.load(f"marian:{marian_folder}")
    assert isinstance(model, Translator)
    assert (model.source, model.target) == ("de", "en")
    together = model.translate(GERMAN, "de")
    assert together == [model.translate([sentence], "de")[0] for sentence in GERMAN]
    assert len(set(together)) > 1
    assert all("▁" not in text and "</s>" not in text for text in together)
    assert capfd.readouterr() == ("", "")


def test_marian_reads_the_tokens_that_its_own_tokenizer_makes(marian_folder):
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = transformers.MarianTokenizer.from_pretrained(marian_folder)
    model = translators.load(f"marian:{marian_folder}")
    for sentence in [*GERMAN, "Ganz andere Wörter: Žižek 12!", "日本"]:
        pieces = model._pieces.cut(sentence)
        ids = [model._vocabulary.get(piece, model._unknown) for piece in pieces]
        assert [*ids, 0] == tokenizer(sentence).input_ids
        assert model.measure(sentence) == len(ids)
        assert model._pieces.join(
            [*pieces[:0], *(p for p in tokenizer.convert_ids_to_tokens(ids) if p != "<unk>")]
        ) == tokenizer.decode([i for i in ids if i != 1], use_source_tokenizer=False)


def test_ctranslate2_agrees_with_transformers(marian_folder, converted_folder, monkeypatch):
    """Word for word where both take the best next piece; how beams end is each engine's own rule."""
    for module in (marian, ctranslate2):
        monkeypatch.setattr(module, "BEAMS", 1)
    slow, fast = translators.load(f"marian:{marian_folder}"), translators.load(f"ctranslate2:{converted_folder}")
    assert isinstance(fast, Translator)
    assert (fast.source, fast.target) == ("de", "en")
    assert fast.translate(GERMAN, "de") == slow.translate(GERMAN, "de")
    assert fast.measure(GERMAN[0]) == slow.measure(GERMAN[0])
    assert fast.fingerprint != slow.fingerprint


def test_the_longest_sentence_is_taken(marian_folder, converted_folder):
    for name in (f"marian:{marian_folder}", f"ctranslate2:{converted_folder}"):
        model = translators.load(name)
        long = "regnet " * 600
        while model.measure(long) > model.limit:
            long = long[: len(long) * 19 // 20].rstrip()
        assert model.translate([long], "de")


def test_the_fingerprint_is_that_of_the_files(marian_folder, tmp_path):
    name = f"marian:{marian_folder}"
    first = translators.load(name).fingerprint
    copy = tmp_path / "moved-de-en"
    shutil.copytree(marian_folder, copy)
    assert translators.load(f"marian:{copy}").fingerprint == first
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(copy / "model.safetensors")
    weights["final_logits_bias"] = torch.zeros_like(weights["final_logits_bias"])
    safetensors.save_file(weights, copy / "model.safetensors", {"format": "pt"})
    translators.load.cache_clear()
    assert translators.load(f"marian:{copy}").fingerprint != first


def test_a_model_that_is_not_here_says_how_to_get_it_and_asks_no_network(monkeypatch, tmp_path):
    pytest.importorskip("transformers")

    def no_network(*_args, **_options):
        raise AssertionError("tried the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(
        TranslationError, match=r"hf download Helsinki-NLP/opus-mt-xx-en; or put config.json, source.spm"
    ):
        translators.load("marian:Helsinki-NLP/opus-mt-xx-en")
    with pytest.raises(TranslationError, match="not on this machine"):
        translators.load(f"marian:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize("gone", ["config.json", "source.spm", "target.spm", "vocab.json", "model.safetensors"])
def test_a_missing_file_is_named(marian_folder, tmp_path, gone):
    copy = tmp_path / "copy-de-en"
    shutil.copytree(marian_folder, copy)
    (copy / gone).unlink()
    with pytest.raises(TranslationError, match=f"lacks {gone}"):
        translators.load(f"marian:{copy}")


@pytest.mark.parametrize("hurt", ["source.spm", "vocab.json", "model.safetensors", "config.json"])
def test_a_damaged_file_is_named(marian_folder, tmp_path, hurt):
    copy = tmp_path / "copy-de-en"
    shutil.copytree(marian_folder, copy)
    (copy / hurt).write_bytes(b"{ not this")
    with pytest.raises(TranslationError, match=str(copy)):
        translators.load(f"marian:{copy}")


def test_the_languages_come_from_the_config_or_the_name(tmp_path):
    assert marian.languages(tmp_path, "Helsinki-NLP/opus-mt-nl-en") == ("nl", "en")
    (tmp_path / "tokenizer_config.json").write_text('{"source_lang": "fra", "target_lang": "en"}')
    assert marian.languages(tmp_path, "whatever") == ("fr", "en")
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(TranslationError, match="-de-en"):
        marian.languages(tmp_path, "mymodel")


def test_a_folder_that_was_not_converted_says_how(marian_folder, converted_folder, tmp_path):
    with pytest.raises(TranslationError, match=r"lacks model.bin.*ct2-transformers-converter"):
        translators.load(f"ctranslate2:{marian_folder}")
    copy = tmp_path / "copy-de-en"
    shutil.copytree(converted_folder, copy)
    (copy / "model.bin").write_bytes(b"not this")
    with pytest.raises(TranslationError, match="CTranslate2 cannot read"):
        translators.load(f"ctranslate2:{copy}")


def test_without_the_libraries_the_pip_command_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    for name in (f"marian:{tmp_path}", f"ctranslate2:{tmp_path}"):
        with pytest.raises(MissingExtra, match=r'pip install "photodesk\[translate\]"'):
            translators.load(name)


class Service(BaseHTTPRequestHandler):
    """Answers as its server's `mode` says."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked))
        mode = self.server.mode
        status = (
            500
            if mode in ("error", "mute")
            else 307
            if mode == "redirect"
            else 302
            if mode == "moved"
            else 429
            if mode == "busy"
            else 200
        )
        texts = [text.upper() for text in asked["q"]]
        body = {
            "plain": json.dumps({"translatedText": texts}).encode(),
            "short": json.dumps({"translatedText": texts[:-1]}).encode(),
            "one": json.dumps({"translatedText": texts[0]}).encode(),
            "number": json.dumps({"translatedText": [1 for _ in texts]}).encode(),
            "list": b"[1]",
            "html": b"<html>Hello</html>",
            "deep": b"[" * 100_000,
            "binary": b"\xff\xfe\x00",
            "surrogate": b'{"translatedText": ["\\ud800 X"]}',
            "error": b'{"error": "model crashed"}',
            "busy": b"Slowdown: 10 per minute",
        }.get(mode, b"")
        if mode == "hangs":
            self.server.stop.wait(10)
            return
        self.send_response(status)
        if mode in ("redirect", "moved"):
            self.send_header("Location", f"http://127.0.0.1:{self.server.elsewhere}/steal")
        self.send_header(
            "Content-Length", str(1 << 40 if mode in ("huge", "drips", "mute") else len(body) + 10 * (mode == "cut"))
        )
        self.end_headers()
        if mode == "huge":
            block = b" " * (1 << 20)
            for _ in range(64):
                self.server.sent += 1
                try:
                    self.wfile.write(block)
                except OSError:
                    return
        elif mode == "mute":
            self.server.stop.wait(10)
        elif mode == "drips":
            while not self.server.stop.wait(0.02):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    servers = []
    for _ in range(2):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
        server.daemon_threads = True
        server.mode, server.asked, server.sent, server.stop = "plain", [], 0, threading.Event()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
    servers[0].elsewhere, servers[0].other = servers[1].server_port, servers[1]
    yield servers[0]
    for server in servers:
        server.stop.set()
        server.shutdown()
        server.server_close()


def client(service, **options):
    return libretranslate.LibreTranslate(f"http://127.0.0.1:{service.server_port}", **options)


def test_a_service_is_asked_in_its_own_words(service, monkeypatch):
    monkeypatch.setenv("LIBRETRANSLATE_API_KEY", "secret")
    one = translators.load(f"http://127.0.0.1:{service.server_port}/")
    assert isinstance(one, Translator)
    assert one.translate(["Grüße", "b"], "de") == ["GRÜSSE", "B"]
    assert service.asked == [
        ("/translate", {"q": ["Grüße", "b"], "source": "de", "target": "en", "format": "text", "api_key": "secret"})
    ]
    assert "secret" not in one.fingerprint
    one.translate(["a"], "")
    assert service.asked[-1][1]["source"] == "auto"


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("error", "HTTP 500.*model crashed"),
        ("mute", "HTTP 500: Internal Server Error"),
        ("busy", "HTTP 429.*10 per minute"),
        ("html", "not JSON with translatedText but b'<html>Hello"),
        ("deep", "not JSON"),
        ("list", "not JSON"),
        ("binary", "not JSON"),
        ("short", "1 translations came for 2"),
        ("one", "not a list of texts"),
        ("number", "not a list of texts"),
        ("huge", "longer than 4 MiB"),
        ("cut", "IncompleteRead|not JSON"),
        ("redirect", "sends on to"),
        ("moved", "sends on to"),
        ("hangs", "no answer within 0.5 s"),
        ("drips", "no answer within 0.5 s"),
    ],
)
def test_a_bad_answer_is_named(service, mode, says):
    service.mode = mode
    start = time.monotonic()
    with pytest.raises(
        TranslationError, match=rf"translation service http://127.0.0.1:\d+/translate: (?s:.*)(?:{says})"
    ):
        client(service, timeout=0.5).translate(["a", "b"], "de")
    assert time.monotonic() - start < 60  # not a timing: a client without a deadline waits for ever
    assert not service.other.asked
    assert service.sent < 64


def test_nobody_at_that_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TranslationError, match="refused"):
        libretranslate.LibreTranslate(f"http://127.0.0.1:{port}").translate(["a"], "de")


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "http://user:pw@host", "http://host:port", "http://host/?key=1", "http://[::1"]
)
def test_a_bad_address_is_a_wrong_call(url):
    with pytest.raises(UsageError):
        translators.load(url)


def test_a_lone_surrogate_from_a_service_reaches_no_file(service, monkeypatch, tmp_path):
    from photodesk.text import translation

    monkeypatch.setenv("PHOTODESK_CACHE", str(tmp_path))
    service.mode = "surrogate"
    assert translation.translate(["Hallo"], client(service), source="de").texts == ("? X",)
