import pytest
import torch

from bernini.sampler import Sampler, spaced_timesteps


def test_five_steps_are_the_published_ones():
    assert [999, 749, 500, 250, 0] == spaced_timesteps(5).tolist()
    assert [999.0, 749.0, 500.0, 250.0, 0.0] == Sampler(5).timesteps.tolist()


def test_last_step_gives_the_prediction_whatever_the_noise():
    sampler = Sampler(5)
    clean, noisy, noise = torch.randn(3, 4)
    assert 0.0 == sampler.sigma[4].item()
    torch.testing.assert_close(sampler.step(4, clean, noisy, noise), clean)


def test_only_the_last_step_takes_no_noise():
    assert [True, True, True, True, False] == (Sampler(5).sigma > 0).tolist()


@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_tables_are_finite_at_both_ends(steps):
    sampler = Sampler(steps)
    for table in (sampler.clean_weight, sampler.noisy_weight, sampler.sigma):
        assert (steps,) == tuple(table.shape)
        assert table.isfinite().all()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be from 1 to 1000"):
        Sampler(steps)


def test_means_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
    )
    sampler = Sampler(5)
    scheduler.set_timesteps(timesteps=[999, 749, 500, 250, 0])
    clean, noisy = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    for index, timestep in enumerate(scheduler.timesteps):
        torch.manual_seed(index)
        expected = scheduler.step(clean, timestep, noisy).prev_sample
        torch.manual_seed(index)
        actual = sampler.step(index, clean, noisy, torch.randn(1, 8))
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
