"""T×V as a torch module, optimised for CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from photodesk.errors import require


def fast_bf16() -> bool:
    """Whether this CPU has bfloat16 products in hardware, which are faster than float32."""
    cpu = require("torch", "train").cpu
    checks = (getattr(cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(check and check() for check in checks)


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
        """Divides the n × n products by the norms, not the n × D rows, which halves the passes over them."""
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
    """torch's Linear with its own products under autocast."""

    class Product(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
        """x Wᵀ + b of float32 numbers with bfloat16 products, instead of autocast's own.

        The gradient of W is gᵀ x; the product is twice as fast if gᵀ is made contiguous first. The result is float32,
        in which tanh takes a fifth of its time in bfloat16.
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
    """torch's Dropout in a tenth of the time on a CPU."""

    class Dropout(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            """Compares 16 random bits per number; an int64 gives four."""
            if not self.training or not share:
                return x
            random = torch.empty(len(x), -(-x.shape[1] // 4), dtype=torch.int64).random_(-(2**63), None)
            bits = random.view(torch.int16)[:, : x.shape[1]]
            # into x's type, without a boolean tensor in between
            kept = torch.ge(bits, round(share * 65536) - 32768, out=torch.empty(x.shape, dtype=x.dtype))
            return x * kept.div_(1 - share)

    return Dropout


def clip(torch: Any, parameters: Sequence[Any], limit: float) -> None:
    """Clip gradients to a norm of `limit`, as torch's clip_grad_norm_, but without multiplying short ones by 1."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))) + 1e-6
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
