"""An example call of every op in OpenVINO's table."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["EXAMPLES"]


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X = _random(2, 4, 6)
Y = _random(2, 4, 6, seed=1)
POSITIVE = X.abs() + 0.5
UNIT = torch.tanh(X) * 0.9
MATRIX = _random(6, 5)
IMAGE = _random(2, 4, 8, 8)
VOLUME = _random(1, 4, 4, 6, 6)
INTS = torch.arange(-6, 18).reshape(2, 12)
MORE_INTS = INTS.flip(1) * 3 + 1
FLAGS = X > 0
OTHER_FLAGS = Y > 0
INDEX = torch.tensor([2, 0, 1])
GATHERED = torch.tensor([[[0, 1, 2, 3, 1, 0]], [[3, 2, 1, 0, 2, 1]]])
SCALE, SHIFT = _random(6, seed=2), _random(6, seed=3)
CHANNELS = _random(4, seed=4)
HEADS = _random(1, 2, 5, 8)

#: op -> arguments, positional and by name. Tensors are given as inputs.
EXAMPLES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}


def _example(names: str, *args: Any, **kwargs: Any) -> None:
    for name in names.split():
        EXAMPLES[f"aten.{name}"] = (args, kwargs)


_example(
    "abs.default atan.default ceil.default cos.default cosh.default erf.default exp.default "
    "floor.default gelu.default hardsigmoid.default hardswish.default hardtanh.default "
    "leaky_relu.default mish.default neg.default relu.default relu6.default round.default "
    "selu.default sigmoid.default sign.default silu.default sin.default sinh.default "
    "softplus.default square.default tan.default tanh.default celu.default "
    "expm1.default clone.default alias.default detach.default log_sigmoid.default "
    "isnan.default isinf.default erfc.default",
    X,
)
_example("log.default log2.default log10.default log1p.default rsqrt.default", POSITIVE)
_example("sqrt.default reciprocal.default asinh.default", POSITIVE)
_example("asin.default acos.default atanh.default", UNIT)
_example("acosh.default", POSITIVE + 1)
_example("logical_not.default bitwise_not.default", FLAGS)
_example("logical_and.default logical_or.default logical_xor.default", FLAGS, OTHER_FLAGS)
_example("bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor", FLAGS, OTHER_FLAGS)
_example("add.Tensor sub.Tensor mul.Tensor div.Tensor maximum.default minimum.default", X, Y)
_example("atan2.default max.other min.other eq.Tensor ne.Tensor lt.Tensor le.Tensor", X, Y)
_example("gt.Tensor ge.Tensor rsub.Tensor", X, Y)
_example("add.Scalar mul.Scalar div.Scalar rsub.Scalar", X, 1.5)
_example("eq.Scalar ne.Scalar lt.Scalar le.Scalar gt.Scalar ge.Scalar", X, 0.5)
_example("div.Tensor_mode", X, POSITIVE, rounding_mode="floor")
_example("remainder.Tensor fmod.Tensor", MORE_INTS, torch.tensor(5))
_example("remainder.Scalar fmod.Scalar", X, 0.7)
_example("pow.Tensor_Scalar", POSITIVE, 3.0)
_example("pow.Tensor_Tensor", POSITIVE, Y)
_example("pow.Scalar", 2.0, X)
_example("logaddexp.default", X, Y)
_example("clamp.default", X, -0.5, 0.5)
_example("clamp.Tensor", X, UNIT * 0.1 - 1, UNIT * 0.1 + 1)
_example("clamp_min.default clamp_max.default", X, 0.25)
_example("where.self", FLAGS, X, Y)
_example("where.ScalarOther", FLAGS, X, 0.0)
_example("where.ScalarSelf", FLAGS, 1.0, X)
_example("masked_fill.Scalar", X, FLAGS, -1.0)
_example("masked_fill.Tensor", X, FLAGS, torch.tensor(-1.0))
_example("lerp.Scalar", X, Y, 0.3)
_example("lerp.Tensor", X, Y, UNIT)
_example("addcmul.default addcdiv.default", X, Y, POSITIVE, value=0.5)
_example("_to_copy.default", MORE_INTS, dtype=torch.float32)
_example("type_as.default", INTS, X)
_example("nan_to_num.default", X)
# --- sums and the like
_example("sum.default mean.default amax.default amin.default max.default min.default", X)
_example("prod.default all.default any.default", FLAGS.to(torch.float32) + 1)
_example("sum.dim_IntList mean.dim amax.default amin.default logsumexp.default", X, [1, 2])
_example("all.dim any.dim", FLAGS, 1)
_example("prod.dim_int", UNIT, 1)
_example("max.dim min.dim", X, 1)
_example("argmax.default argmin.default", X, 1)
_example("var.correction std.correction", X, [2], correction=1)
_example("var_mean.correction", X, [2], correction=0)
_example("var.dim std.dim", X, [2], True)
_example("cumsum.default", X, 1)
_example("topk.default", X, 3, 2)
_example("sort.default", X, 2)
_example("argsort.default", X, 2)
_example("linalg_vector_norm.default", X, 2.0, [2])
_example("softmax.int log_softmax.int", X, 2)
_example("_softmax.default _log_softmax.default", X, 2, False)
# --- shapes
_example("view.default reshape.default", X, [4, 12])
_example("_unsafe_view.default", X, [4, 12])
_example("flatten.using_ints", X, 1, 2)
_example("unflatten.int", X, 2, [2, 3])
_example("permute.default", X, [2, 0, 1])
_example("transpose.int", X, 1, 2)
_example("t.default", MATRIX)
_example("expand.default", X[:, :1], [2, 4, 6])
_example("repeat.default tile.default", X, [1, 2, 1])
_example("repeat_interleave.self_int", X, 2, 1)
_example("squeeze.default", X[:, :1])
_example("squeeze.dim", X[:, :1], 1)
_example("squeeze.dims", X[:, :1], [1])
_example("unsqueeze.default", X, 1)
_example("select.int", X, 1, -1)
_example("slice.Tensor", X, 2, 1, 6, 2)
_example("narrow.default", X, 2, 1, 3)
_example("cat.default stack.default", [X, Y], 1)
_example("split.Tensor chunk.default tensor_split.sections", X, 2, 2)
_example("split_with_sizes.default", X, [1, 3], 1)
_example("unbind.int", X, 1)
_example("flip.default", X, [1])
_example("roll.default", X, [2], [1])
_example("rot90.default", X, 1, [1, 2])
_example("tril.default triu.default", MATRIX)
_example("constant_pad_nd.default", X, [1, 2], 0.5)
_example("pad.default", IMAGE, [1, 1, 2, 0], "constant", 0.5)
_example("reflection_pad1d.default replication_pad1d.default", X, [1, 2])
_example("reflection_pad2d.default replication_pad2d.default", IMAGE, [1, 2, 2, 1])
_example("replication_pad3d.default", VOLUME, [1, 1, 1, 1, 1, 1])
_example("slice_scatter.default", X, Y[:, :2], 1, 1, 3)
_example("select_scatter.default", X, Y[:, 0], 1, 2)
_example("pixel_shuffle.default pixel_unshuffle.default", IMAGE, 2)
_example("unfold.default", X, 2, 3, 1)
_example("gather.default", X, 1, GATHERED)
_example("take_along_dim.default", X, GATHERED, 1)
_example("index_select.default", X, 1, INDEX)
_example("index.Tensor", X, [None, INDEX])
_example("embedding.default", MATRIX, INDEX)
_example("fake_quantize_per_tensor_affine.default", X, 0.03, 100, 0, 255)
_example("scatter.value", X, 1, GATHERED, 2.0)
_example("scatter.src", X, 1, GATHERED, Y)
_example("one_hot.default", INDEX, 4)
_example("full_like.default", X, 2.0)
_example("zeros_like.default ones_like.default", X)
_example("arange.start_step", 0, 6, 2)
_example("arange.default", 6)
_example("full.default", [2, 3], 1.5)
_example("zeros.default ones.default", [2, 3])
_example("linspace.default", 0.0, 1.0, 5)
# --- products
_example("mm.default matmul.default", X[0], MATRIX)
_example("bmm.default", X, X.transpose(1, 2).contiguous())
_example("addmm.default", CHANNELS[:4, None].expand(4, 5).contiguous(), X[0], MATRIX)
_example("baddbmm.default", Y[:, :, :4].contiguous(), X, X.transpose(1, 2).contiguous())
_example("mv.default", MATRIX.t().contiguous(), SCALE)
_example("dot.default", SCALE, SHIFT)
_example("outer.default", SCALE, SHIFT)
_example("linear.default", X, MATRIX.t().contiguous(), _random(5, seed=5))
_example("einsum.default", "bij,jk->bik", [X, MATRIX])
_example("scaled_dot_product_attention.default", HEADS, HEADS * 0.5, HEADS + 1)
# --- convolutions, pools, norms
_example("conv1d.default", X, _random(3, 4, 3), _random(3), [1], [1])
_example("conv2d.default", IMAGE, _random(3, 4, 3, 3), _random(3), [2, 2], [1, 1])
_example("conv3d.default", VOLUME, _random(3, 4, 3, 3, 3), _random(3), [1, 1, 1], [1, 1, 1])
_example("conv_transpose1d.default", X, _random(4, 3, 3), _random(3), [2], [1])
_example("conv_transpose2d.input", IMAGE, _random(4, 3, 2, 2), _random(3), [2, 2])
_example("conv_transpose3d.input", VOLUME, _random(4, 3, 2, 2, 2), _random(3), [2, 2, 2])
_example(
    "convolution.default",
    *(IMAGE, _random(4, 1, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 4),
)
_example("layer_norm.default", X, [6], SCALE, SHIFT, 1e-5)
_example("group_norm.default", IMAGE, 2, CHANNELS, CHANNELS, 1e-5)
_example("rms_norm.default", X, [6], SCALE, 1e-5)
_example("instance_norm.default", IMAGE, CHANNELS, CHANNELS, None, None, True, 0.0, 1e-5, False)
_example(
    "batch_norm.default",
    *(IMAGE, CHANNELS, CHANNELS, CHANNELS * 0, CHANNELS.abs() + 1, False, 0.0, 1e-5, False),
)
_example("prelu.default", IMAGE, CHANNELS)
_example("glu.default", X, 2)
_example("avg_pool1d.default max_pool1d.default", X, [2], [2])
_example("avg_pool2d.default max_pool2d.default", IMAGE, [2, 2], [2, 2])
_example("avg_pool3d.default max_pool3d.default", VOLUME, [2, 2, 2], [2, 2, 2])
_example("adaptive_avg_pool1d.default", X, [3])
_example("adaptive_avg_pool2d.default _adaptive_avg_pool2d.default", IMAGE, [4, 4])
_example("adaptive_avg_pool3d.default _adaptive_avg_pool3d.default", VOLUME, [2, 3, 3])
_example("upsample_nearest1d.vec", X, None, [2.0])
_example("upsample_nearest2d.vec", IMAGE, None, [2.0, 2.0])
_example("upsample_nearest3d.vec", VOLUME, None, [2.0, 2.0, 2.0])
_example("upsample_linear1d.vec", X, None, False, [2.0])
_example("upsample_bilinear2d.vec upsample_bicubic2d.vec", IMAGE, None, False, [2.0, 2.0])
_example("upsample_trilinear3d.vec", VOLUME, None, False, [2.0, 2.0, 2.0])
_example("upsample_nearest2d.default", IMAGE, [16, 16])
_example("upsample_nearest3d.default", VOLUME, [8, 12, 12])
_example("upsample_bilinear2d.default", IMAGE, [16, 16], False)
_example("grid_sampler_2d.default", IMAGE, torch.tanh(_random(2, 3, 3, 2)), 0, 0, False)
_example("grid_sampler.default", IMAGE, torch.tanh(_random(2, 3, 3, 2)), 0, 0, False)
