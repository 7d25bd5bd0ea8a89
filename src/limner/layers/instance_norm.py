"""Instance normalization, and its adaptive form, whose scale and shift come from elsewhere.

Every channel of every image is brought to mean 0 and variance 1 over its positions (Ulyanov et al. 2016,
arXiv:1607.08022); adaptive instance normalization then multiplies it by a scale and adds a shift that are computed from
a style (Huang & Belongie 2017, arXiv:1703.06868). Positions may have two dimensions or three.

It is batch normalization of one image, and computed as that, scale and shift included: torch's kernels of that read
channels-last memory as it is, where `torch.nn.functional.instance_norm` makes copies. Kept for the way back is x alone.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

EPS = 1e-5
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""by number of dimensions"""


def instance_norm(x: Float[Tensor, "n c ..."], eps: float = EPS) -> Float[Tensor, "n c ..."]:
    """(x - mean) / √(variance + eps), both over the positions of one image's channel."""
    return _normalized(x, None, None, eps)[0]


def adaptive_instance_norm(
    x: Float[Tensor, "n c ..."], scale: Float[Tensor, "n c"], shift: Float[Tensor, "n c"], eps: float = EPS
) -> Float[Tensor, "n c ..."]:
    """`instance_norm`, times `scale`, plus `shift`."""
    return _normalized(x, scale, shift, eps)[0]


def instance_statistics(
    x: Float[Tensor, "n c ..."], eps: float = EPS
) -> tuple[Float[Tensor, "n c ..."], Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """`instance_norm` of x, and what it took away: mean and √(variance + eps), differentiable as all else."""
    return _normalized(x, None, None, eps)


def _normalized(x: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x normalized, times scale, plus shift; mean; deviation. All but the first are in float32 at least."""
    exact = torch.promote_types(x.dtype, torch.float32)
    if scale is None or shift is None:
        scale = torch.ones(x.shape[:2], dtype=exact, device=x.device)
        shift = torch.zeros_like(scale)
    y, mean, deviation = _Normalize.apply(x, scale.to(exact), shift.to(exact), eps)
    return y, mean, deviation


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        x, scale, shift = _dense(x), scale.contiguous(), shift.contiguous()
        y, mean, inverse = _forward(x, scale, shift, eps)
        context.save_for_backward(x, scale, mean, inverse)
        context.eps = eps
        context.set_materialize_grads(False)
        # Of a constant channel, with eps of 0, torch says 0 where it is 1 / 0.
        return y, mean.clone(), inverse.reciprocal().masked_fill_(inverse == 0, 0.0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, scale, mean, inverse = context.saved_tensors
        if torch.is_grad_enabled():
            return *_backward_to_differentiate(x, scale, context.eps, *gradients), None
        of_y, of_mean, of_deviation = gradients
        if of_y is None:
            found = torch.zeros_like(x), torch.zeros_like(scale), torch.zeros_like(scale)
        else:
            wanted = list(context.needs_input_grad[:3])
            found = _backward(of_y, x, scale, mean, inverse, context.eps, wanted)
        if of_mean is not None or of_deviation is not None:
            _add_gradient_of_statistics(found[0], x, mean, inverse, of_mean, of_deviation)
        return *found, None


def _forward(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x normalized, times scale, plus shift; mean; 1 / deviation."""
    if not _channels_last(x):
        ((x_, scale_, shift_),) = _batches(x, scale, shift)
        y, mean, inverse = torch.native_batch_norm(x_, scale_, shift_, None, None, True, 0.0, eps)
        y = torch.ops.aten._unsafe_view(y, x.shape)  # in a view, what follows could not work in place
        return y, mean.view(scale.shape), inverse.view(scale.shape)
    y, mean, inverse = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
    for x_, y_, scale_, shift_, mean_, inverse_ in _batches(x, y, scale, shift, mean, inverse):
        outcomes = {"out": y_, "save_mean": mean_, "save_invstd": inverse_}
        torch.ops.aten.native_batch_norm.out(x_, scale_, shift_, None, None, True, 0.0, eps, **outcomes)
    return y, mean, inverse


def _backward(
    of_y: Tensor, x: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor, eps: float, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in x, scale and shift."""
    of_y = of_y.to(x.dtype)
    of_y = of_y.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if _channels_last(x) else of_y.contiguous()
    found = torch.empty_like(x), torch.zeros_like(scale), torch.zeros_like(scale)
    for y_, x_, scale_, mean_, inverse_, *found_ in _batches(of_y, x, scale, mean, inverse, *found):
        made = torch.ops.aten.native_batch_norm_backward(y_, x_, scale_, None, None, mean_, inverse_, True, eps, wanted)
        for to, each, asked in zip(found_, made, wanted, strict=True):
            if asked:
                to.copy_(each)
    return found


def _add_gradient_of_statistics(
    gradient: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, of_mean: Tensor | None, of_deviation: Tensor | None
) -> None:
    """Those of mean and deviation in x, added to its gradient: ∂m/∂x = 1/p and ∂d/∂x = (x - m) / (d p)."""
    positions = x[0, 0].numel()
    steepness = torch.zeros_like(mean) if of_deviation is None else of_deviation * inverse / positions
    constant = -mean * steepness if of_mean is None else of_mean / positions - mean * steepness
    ones = (1,) * (x.ndim - 2)
    gradient.add_(constant.view(*mean.shape, *ones)).addcmul_(x, steepness.view(*mean.shape, *ones).to(x.dtype))


def _backward_to_differentiate(
    x: Tensor, scale: Tensor, eps: float, of_y: Tensor | None, of_mean: Tensor | None, of_deviation: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in x, scale and shift in closed form, of operations that have derivatives themselves."""
    over, positions = tuple(range(2, x.ndim)), x[0, 0].numel()

    def column(values: Tensor) -> Tensor:
        return values.view(*values.shape, *(1,) * (x.ndim - 2))

    exact = x.to(scale.dtype)
    centred = exact - exact.mean(over, keepdim=True)
    deviation = (centred.square().mean(over, keepdim=True) + eps).sqrt()
    normalized = centred / deviation
    found = torch.zeros_like(exact), torch.zeros_like(scale), torch.zeros_like(scale)
    if of_y is not None:
        of_y = of_y.to(scale.dtype)
        of_shift, of_scale = of_y.sum(over), (of_y * normalized).sum(over)
        rest = of_y - (column(of_shift) + normalized * column(of_scale)) / positions
        found = column(scale) / deviation * rest, of_scale, of_shift
    of_x = found[0]
    if of_mean is not None:
        of_x = of_x + column(of_mean) / positions
    if of_deviation is not None:
        of_x = of_x + normalized * column(of_deviation) / positions
    return of_x.to(x.dtype), found[1], found[2]


# --- memory -------------------------------------------------------------------------------------------------------


def _dense(x: Tensor) -> Tensor:
    return x if _channels_last(x) else x.contiguous()


def _channels_last(x: Tensor) -> bool:
    """Whether an image's channels are side by side, on a device where the kernels read that."""
    if x.device.type != "cpu" or x.ndim not in CHANNELS_LAST:
        return False
    return x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim]) and not x.is_contiguous()


def _batches(x: Tensor, *others: Tensor) -> list[list[Tensor]]:
    """Of x and others like it, and of [n, c], what one batch normalization takes.

    Channels last, that is an image; otherwise all images, as one of all their channels.
    """
    tensors = (x, *others)
    if _channels_last(x):
        return [[each[i : i + 1] if each.ndim > 2 else each[i] for each in tensors] for i in range(len(x))]
    return [[each.view(1, -1, *x.shape[2:]) if each.ndim > 2 else each.view(-1) for each in tensors]]
