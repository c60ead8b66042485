import pytest
import torch

from delira_nca.models import BasicNCAModel, pad_input, presets
from delira_nca.rollout import set_backend
from delira_nca.rollout.backends import BACKENDS
from delira_nca.rollout.job import BatchPart, at_part, current_part, first_sample
from delira_nca.rollout.masks import fire_mask, update_noise


@pytest.mark.parametrize("total", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_parts_follow_one_another_and_differ_by_one_sample_at_most(size, total):
    parts = [BatchPart.of(rank, size, total) for rank in range(size)]
    owned = [number for part in parts for number in range(total)[part.own]]
    assert owned == list(range(total))
    sizes = [part.size for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sum(part.share for part in parts) == pytest.approx(1.0)


def test_who_has_no_sample_computes_the_first_one_and_it_does_not_count():
    part = BatchPart.of(2, 3, 2)
    assert (part.rows, part.own, part.share) == (slice(0, 1), slice(0, 0), 0.0)


def test_a_part_is_known_inside_the_block_only_also_after_an_error():
    part = BatchPart(2, 2, 4)
    with at_part(part):
        assert current_part() is part
        assert first_sample(torch.zeros(2, 1)) == 2
    with pytest.raises(ZeroDivisionError), at_part(part):
        1 / 0  # noqa: B018
    assert current_part() is None
    assert first_sample(torch.zeros(2, 1)) == 0


def test_where_samples_have_become_several_the_ones_before_have_too():
    with at_part(BatchPart(2, 2, 4)):
        assert [first_sample(torch.zeros(n, 1)) for n in (2, 4, 6)] == [2, 4, 6]
        assert first_sample(torch.zeros(3, 1)) == 2


def test_masks_noise_and_hidden_channels_of_a_part_are_those_of_the_whole(noise):
    whole, part = (fire_mask(7, 3, n, (5, 6), 0.5, first_sample=k) for n, k in ((5, 0), (2, 3)))
    assert torch.equal(whole[3:], part)
    whole, part = (update_noise(7, 3, n, 4, (5, 6), first_sample=k) for n, k in ((5, 0), (2, 3)))
    assert torch.equal(whole[3:], part)
    model = BasicNCAModel(pad_noise=True)
    image = noise(5, 4, 6, 6)

    def padded(part):
        rows = slice(None) if part is None else part.rows
        with at_part(part):
            return pad_input(image[rows], model, generator=torch.Generator().manual_seed(0))

    assert torch.equal(padded(None)[3:], padded(BatchPart.of(1, 2, 5)))


@pytest.mark.parametrize("backend", [name for name, backend in BACKENDS.items() if backend.unavailable() is None])
def test_every_back_end_rolls_parts_out_as_it_does_the_whole(backend, randomise, noise):
    model = randomise(BasicNCAModel(**presets.growing(), update_noise=0.05))
    x = noise(5, 16, 9, 9).abs()
    set_backend(backend)
    try:
        whole = model(x, 4, seed=3).output_image
        for rank in range(2):
            part = BatchPart.of(rank, 2, 5)
            with at_part(part):
                rolled = model(x[part.rows], 4, seed=3).output_image
            assert torch.allclose(rolled, whole[part.rows], atol=1e-6)
    finally:
        set_backend("auto")
