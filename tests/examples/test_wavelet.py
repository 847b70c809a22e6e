import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bernini.wavelet import HIGH_PASS, LOW_PASS, InverseWavelet, synthesis_matrix, unpack

# The smallest grid on which the transform is defined: 17 -> 18 -> 20 -> 24.
LOW = 17


@pytest.fixture
def packed():
    return torch.randn(1, 64, LOW, LOW, LOW, generator=torch.Generator().manual_seed(0))


def unpack_by_index(packed):
    """Every coefficient fetched one by one from where the packing puts it."""
    side = packed.shape[-1]
    volume = packed[0].numpy()
    band, x, y, z = np.indices((7, 2 * side, 2 * side, 2 * side))
    channel = 1 + (((x % 2) * 7 + band) * 2 + y % 2) * 2 + z % 2
    fine = volume[channel, x // 2, y // 2, z // 2][:, 8:-8, 8:-8, 8:-8]
    return volume[0], volume[57:64], fine


def synthesise_by_convolution(low, high):
    """One level as a transposed 3D convolution with all 18^3 taps of all eight bands."""
    taps = [torch.tensor(LOW_PASS).double(), torch.tensor(HIGH_PASS).double()]
    kernels = torch.stack(
        [
            torch.einsum("i,j,k->ijk", taps[band >> 2], taps[band >> 1 & 1], taps[band & 1])
            for band in range(8)
        ]
    )
    bands = torch.cat([low[None], high]).double()
    return F.conv_transpose3d(bands[None], kernels[:, None], stride=2, padding=16)[0, 0]


def test_unpack_is_the_gather_it_stands_for(packed):
    expected = unpack_by_index(packed)
    actual = unpack(packed)
    for want, have in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(want, have.numpy())


def test_synthesis_is_the_transposed_convolution(packed):
    low, coarse, fine = unpack(packed)
    expected = synthesise_by_convolution(low, coarse)
    expected = synthesise_by_convolution(expected, fine)
    expected = synthesise_by_convolution(expected, torch.zeros(7, *expected.shape))
    actual = InverseWavelet(LOW)(packed)
    assert (24, 24, 24) == tuple(actual.shape)
    torch.testing.assert_close(actual, expected.float(), atol=1e-5, rtol=1e-5)


def test_synthesis_is_that_of_pywavelets(packed):
    pywt = pytest.importorskip("pywt")
    names = ["aad", "ada", "add", "daa", "dad", "dda", "ddd"]
    low, coarse, fine = (part.double().numpy() for part in unpack(packed))
    expected = low
    for high in (coarse, fine, None):
        bands = {"aaa": expected}
        bands |= dict(zip(names, high if high is not None else [None] * 7, strict=True))
        expected = pywt.idwtn(bands, "bior6.8", mode="zero")
    actual = InverseWavelet(LOW)(packed)
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


def test_taps_are_those_of_pywavelets():
    pywt = pytest.importorskip("pywt")
    wavelet = pywt.Wavelet("bior6.8")
    assert wavelet.rec_lo == list(LOW_PASS)
    assert wavelet.rec_hi == list(HIGH_PASS)


def test_synthesis_inverts_analysis():
    # The analysis filters are the synthesis filters swapped, with every other tap negated.
    signs = (-1.0) ** np.arange(18)
    side = 40
    signal = np.random.default_rng(0).standard_normal(2 * side - 16)
    row, column = np.indices((side, len(signal)))
    tap = 2 * row + 1 - column
    inside = (tap >= 0) & (tap < 18)
    low, high = (
        np.where(inside, taps[tap.clip(0, 17)], 0) @ signal
        for taps in (signs * HIGH_PASS, -signs * LOW_PASS)
    )
    rebuilt = (
        synthesis_matrix(LOW_PASS, side).numpy() @ low
        + synthesis_matrix(HIGH_PASS, side).numpy() @ high
    )
    np.testing.assert_allclose(rebuilt, signal, atol=1e-6)


def test_it_is_linear(packed):
    wavelet = InverseWavelet(LOW)
    other = packed.flip(-1)
    expected = 2 * wavelet(packed) - 3 * wavelet(other)
    torch.testing.assert_close(wavelet(2 * packed - 3 * other), expected, atol=1e-4, rtol=1e-4)


def test_a_constant_low_band_gives_a_constant_field():
    packed = torch.zeros(1, 64, 22, 22, 22)
    packed[0, 0] = 1
    field = InverseWavelet(22)(packed)
    # Every level and axis takes sqrt(2) off a constant.
    torch.testing.assert_close(field, torch.full((64, 64, 64), 2**-4.5), atol=1e-6, rtol=1e-5)
