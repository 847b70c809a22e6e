import numpy as np
import pywt
import torch

from bernini.shapes import sphere
from bernini.train.analysis import Wavelet, analysis_matrix, pack
from bernini.wavelet import InverseWavelet, unpack


def test_one_level_is_that_of_pywavelets():
    signal = np.random.default_rng(0).normal(size=64)
    low, high = pywt.dwt(signal, "bior6.8", mode="constant")
    for band, expected in (("low", low), ("high", high)):
        np.testing.assert_allclose(analysis_matrix(band, 64).numpy() @ signal, expected, atol=1e-5)


def test_packing_is_undone_by_unpacking():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, *shape, generator=generator) for shape in ((22,) * 3, (7, *(22,) * 3))]
    parts.append(torch.randn(1, 7, 28, 28, 28, generator=generator))
    for want, have in zip(parts, unpack(pack(*parts)), strict=True):
        assert torch.equal(want[0], have)


def test_a_field_comes_back_but_for_its_finest_details():
    field = torch.from_numpy(sphere(64).clip(-0.12, 0.12))
    packed = Wavelet(64)(field[None])
    assert (1, 64, 22, 22, 22) == tuple(packed.shape)
    back = InverseWavelet(22)(packed)
    assert (back - field).abs().max() < 0.02
    assert ((back < 0) == (field < 0)).float().mean() > 0.998
