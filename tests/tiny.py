"""Real model classes at toy sizes with random weights, saved to disk as their libraries save them: no network, no
download."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

WORDS = [
    "Hochwasser",
    "an",
    "der",
    "Elbe",
    "Flood",
    "Election",
    "Ein",
    "sehr",
    "langer",
    "Satz",
    "über",
    "das",
    "Wetter",
    ",",
    ".",
    "the",
    "a",
    "in",
    "dog",
    "house",
]


def openclip_config(folder: Path, name: str, *, vision_cfg=None, **changes) -> str:
    """Register a small open_clip architecture, with another photo tower if given; returns its name."""
    import open_clip

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    config["vision_cfg"] = vision_cfg or config["vision_cfg"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    return name


def openclip_weights(name: str, path: Path, seed: int = 0, visual_of=None) -> Path:
    """Random weights of a registered architecture in a file; the photo tower of another model if given."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    logging.disable(logging.WARNING)
    model = open_clip.create_model(name, pretrained_text=False)
    logging.disable(logging.NOTSET)
    for parameter in model.parameters():  # biases and the like start at zero, where mistakes hide
        if parameter.ndim == 1 or hasattr(model.visual, "trunk"):
            torch.nn.init.normal_(parameter, std=0.2)
    state = model.state_dict()
    if visual_of is not None:
        state |= {key: tensor for key, tensor in visual_of.items() if key.startswith("visual.")}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def tokenizer(folder: Path, first="<s>", last="</s>", pad="<pad>", *, template=None) -> Path:
    """A SentencePiece-like tokenizer of a few words and all their letters, as tokenizer.json with its configuration."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted({sign for word in WORDS for sign in word} | set("▁abcdefghijklmnopqrstuvwxyz"))
    special = list(dict.fromkeys([first, pad, last, "<unk>"]))
    pieces = (
        [(sign, 0.0) for sign in special] + [("▁" + word, -2.0) for word in WORDS] + [(sign, -5.0) for sign in letters]
    )
    made = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=special.index("<unk>")))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    ids = [(sign, special.index(sign)) for sign in dict.fromkeys([first, last])]
    made.post_processor = processors.TemplateProcessing(single=template or f"{first} $A {last}", special_tokens=ids)
    return save_tokenizer(
        made, folder, bos_token=first, eos_token=last, pad_token=pad, unk_token="<unk>", sep_token=last, cls_token=first
    )


def save_tokenizer(made, folder: Path, **signs) -> Path:
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=made, **signs).save_pretrained(folder)
    return folder


def xlmr(folder: Path) -> Path:
    """A folder like the hub's xlm-roberta-large: configuration and tokenizer, no weights."""
    from transformers import XLMRobertaConfig

    tokenizer(folder)
    size = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 90,
    }
    XLMRobertaConfig(vocab_size=120, pad_token_id=1, bos_token_id=0, eos_token_id=2, **size).save_pretrained(folder)
    return folder


def clip(folder: Path, kind: str = "clip", seed: int = 0) -> Path:
    """A folder with a CLIP, SigLIP or SigLIP 2 model of Transformers."""
    import torch
    import transformers

    torch.manual_seed(seed)
    size = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "clip":
        text = size | {
            "vocab_size": 120,
            "max_position_embeddings": 40,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        }
        config = transformers.CLIPConfig(
            text_config=text, vision_config=size | {"image_size": 32, "patch_size": 16}, projection_dim=16
        )
        model, processor = (
            transformers.CLIPModel(config),
            transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32),
        )
        tokenizer(folder)
    else:
        text = size | {
            "vocab_size": 120,
            "max_position_embeddings": 64,
            "eos_token_id": 2,
            "pad_token_id": 1,
            "bos_token_id": 0,
        }
        if kind == "siglip":
            config = transformers.SiglipConfig(
                text_config=text, vision_config=size | {"image_size": 32, "patch_size": 16}
            )
            model, processor = (
                transformers.SiglipModel(config),
                transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}),
            )
        else:
            config = transformers.Siglip2Config(
                text_config=text, vision_config=size | {"num_patches": 16, "patch_size": 8}
            )
            model = transformers.Siglip2Model(config)
            processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
        tokenizer(folder, template="$A </s>")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def sentence(folder: Path, dim: int = 16, teacher=None, texts=()) -> Path:
    """A sentence-transformers model: BERT, mean, linear layer; with a teacher, its layer is solved so that `texts` fall
    on its rows."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel

    try:
        from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    except ImportError:
        from sentence_transformers.models import Dense, Pooling, Transformer

    torch.manual_seed(0)
    inner = tokenizer(folder.with_name(folder.name + "-inner"))
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=120, pad_token_id=1, **size)).save_pretrained(inner)
    words = Transformer(str(inner), max_seq_length=40)
    dense = Dense(32, dim, bias=False, activation_function=torch.nn.Identity())
    model = SentenceTransformer(modules=[words, Pooling(32), dense], device="cpu")
    if teacher is not None:
        given = SentenceTransformer(modules=[words, Pooling(32)], device="cpu").encode(
            list(texts), show_progress_bar=False
        )
        solved = np.linalg.lstsq(given, teacher.encode(texts), rcond=None)[0]
        with torch.no_grad():
            dense.linear.weight.copy_(torch.from_numpy(solved.T))
    model.save(str(folder))
    return folder
