"""T×V as a module in torch: blocks, and what makes a step of them fast on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from photodesk.errors import require


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware, so that it is faster than float32."""
    torch = require("torch", "train")
    found = getattr(torch.cpu, "_is_amx_tile_supported", None)
    also = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return any(bool(check and check()) for check in (found, also))


def module(torch: Any, dims: tuple[tuple[int, ...], tuple[int, ...]], width: tuple[int, ...], dropout: float) -> Any:
    """T×V in torch: `texts[t][v]`, `photos[v]`, `pairs[v][t]`, each a block; Xavier-uniform weights and zero bias.

    Args:
        torch: the library.
        dims: sizes of the T text and V photo features.
        width: H of the shared photo blocks and D of the joint spaces.
        dropout: in every block.
    """
    nn = torch.nn
    linear, drop = _linear(torch), _dropout(torch, dropout)
    hidden, joint = width

    def block(size: int, dim: int) -> Any:
        first = linear(size, dim)
        nn.init.xavier_uniform_(first.weight)
        nn.init.zeros_(first.bias)
        return nn.Sequential(first, nn.BatchNorm1d(dim), nn.Tanh(), drop())

    def cosines(a: Any, b: Any) -> Any:
        """Norms divide the n × n products, not the n × D rows: half the passes over them, forwards and more so
        backwards."""
        one, other = (torch.linalg.vector_norm(x, dim=1).clamp(min=1e-12) for x in (a, b))
        return (a @ b.T).float() / (one[:, None] * other)

    class TxV(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            texts, visual = dims
            self.texts = nn.ModuleList([nn.ModuleList([block(size, joint) for _ in visual]) for size in texts])
            self.photos = nn.ModuleList([block(size, hidden) for size in visual])
            self.pairs = nn.ModuleList([nn.ModuleList([block(hidden, joint) for _ in texts]) for _ in visual])

        def forward(self, texts: Sequence[Any], photos: Sequence[Any]) -> list[Any]:
            """The T·V score matrices (n texts, n photos) of a batch."""
            shared = [block(y) for block, y in zip(self.photos, photos, strict=True)]
            return [
                cosines(self.texts[t][v](x), self.pairs[v][t](y))
                for t, x in enumerate(texts)
                for v, y in enumerate(shared)
            ]

    return TxV()


def _linear(torch: Any) -> Any:
    """torch's Linear, with products of its own where autocast is on."""

    class Product(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
        """x Wᵀ + b of float32 numbers with bfloat16 products, instead of autocast's own.

        The gradient of W is gᵀ x. Its product is twice as fast when gᵀ is laid out as rows first, which costs a seventh
        of it. The result is float32 at once: tanh takes a fifth of what it takes in bfloat16, and what follows is
        rounded no more than the products are.
        """

        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
            x, weight = x.bfloat16(), weight.bfloat16()
            ctx.save_for_backward(x, weight)
            return torch.addmm(bias.bfloat16(), x, weight.T).float()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> tuple[Any, Any, Any]:
            x, weight = ctx.saved_tensors
            rounded = gradient.bfloat16()
            before = (rounded @ weight).float() if ctx.needs_input_grad[0] else None
            return before, (rounded.T.contiguous() @ x).float(), gradient.sum(0)

    class Linear(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return Product.apply(x, self.weight, self.bias) if torch.is_autocast_enabled("cpu") else super().forward(x)

    return Linear


def _dropout(torch: Any, share: float) -> Any:
    """torch's Dropout, in a tenth of its time on a CPU."""

    class Dropout(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            """16 random bits a number, from eight bytes at once."""
            if not self.training or not share:
                return x
            bits = (
                torch.empty(len(x), -(-x.shape[1] // 4), dtype=torch.int64)
                .random_(-(2**63), None)
                .view(torch.int16)[:, : x.shape[1]]
            )
            kept = torch.ge(
                bits, round(share * 65536) - 32768, out=torch.empty(x.shape, dtype=x.dtype)
            )  # no booleans on the way
            return x * kept.div_(1 - share)

    return Dropout


def clip(torch: Any, parameters: Sequence[Any], limit: float) -> None:
    """Gradients shortened to a norm of at most `limit`, as torch's clip_grad_norm_; short ones are left alone, where
    that multiplies by 1."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))) + 1e-6
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
