"""Set-up that several test files share: small models on disk, made once a session and only if a test asks for them."""

from __future__ import annotations

import functools

import pytest

import tiny

_kept: list[object] = []


def let_torchvision_in() -> None:
    """Let torchvision be imported beside a torch of another build: its Python code names two operators that its own
    library would bring.

    Tests run on the CPU build of torch, and the torchvision that an index gives need not be made for it. open_clip
    takes nothing from torchvision but transforms, which are Python.
    """
    import torch

    if _kept or hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # its declarations live as long as it does


class Zoo:
    """Names of encoders whose models lie in a temporary folder; each is built when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder

    @functools.cached_property
    def openclip(self):
        name = tiny.openclip_config(self.folder / "configs", "tiny")
        return f"openclip:{name}@{tiny.openclip_weights(name, self.folder / 'openclip' / 'tiny.safetensors')}"

    @functools.cached_property
    def openclip_other(self):
        """The same architecture as `openclip`, other weights, in torch's own format."""
        assert self.openclip
        return f"openclip:tiny@{tiny.openclip_weights('tiny', self.folder / 'other.pt', seed=1)}"

    @functools.cached_property
    def openclip_xlmr(self):
        """A multilingual text tower beside the frozen photo tower of `openclip`."""
        from safetensors.torch import load_file

        folder = str(tiny.xlmr(self.folder / "xlmr"))
        text = {
            "hf_model_name": folder,
            "hf_tokenizer_name": folder,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp",
        }
        name = tiny.openclip_config(self.folder / "configs", "tiny-xlmr", text_cfg=text)
        visual = load_file(self.openclip.partition("@")[2])
        return (
            f"openclip:{name}@{tiny.openclip_weights(name, self.folder / 'xlmr.safetensors', seed=2, visual_of=visual)}"
        )

    @functools.cached_property
    def openclip_siglip(self):
        """As SigLIP is built in open_clip: a photo tower of timm, texts in lower case without punctuation, no causal
        mask."""
        tokens = str(tiny.tokenizer(self.folder / "gemma", template="$A </s>"))
        text = {
            "hf_tokenizer_name": tokens,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "context_length": 64,
            "vocab_size": 120,
        }
        text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        vision = {"timm_model_name": "test_vit", "image_size": 160, "timm_pool": "", "timm_proj": "linear"}
        name = tiny.openclip_config(
            self.folder / "configs", "tiny-siglip", custom_text=True, text_cfg=text, vision_cfg=vision
        )
        return f"openclip:{name}@{tiny.openclip_weights(name, self.folder / 'siglip.safetensors')}"

    @functools.cached_property
    def clip(self):
        return f"clip:{tiny.clip(self.folder / 'clip', 'clip')}"

    @functools.cached_property
    def siglip(self):
        return f"clip:{tiny.clip(self.folder / 'siglip', 'siglip')}"

    @functools.cached_property
    def siglip2(self):
        return f"clip:{tiny.clip(self.folder / 'siglip2', 'siglip2')}"

    @functools.cached_property
    def pair(self):
        return f"text={self.openclip_xlmr}, image={self.openclip}"

    @functools.cached_property
    def sentence(self):
        """A text tower that was made to imitate that of `openclip`, beside its photos."""
        from photodesk.encoders import registry
        from photodesk.encoders.mixed import SENTENCES

        teacher = registry.load(self.openclip).texts
        return f"text=sentence:{tiny.sentence(self.folder / 'sentence', 16, teacher, SENTENCES)}, image={self.openclip}"

    @functools.cached_property
    def onnx(self):
        from photodesk.encoders.onnx_export import export

        export(self.openclip, self.folder / "onnx")
        return f"onnx:{self.folder / 'onnx'}"


@pytest.fixture(scope="session")
def torch():
    """torch on one core, with what other libraries import beside it."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the models are too small to share
    let_torchvision_in()
    return torch


@pytest.fixture(scope="session")
def zoo(torch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTODESK_CACHE", str(folder / "cache"))
        patch.setenv("HF_HOME", str(folder / "hub"))
        yield Zoo(folder)
