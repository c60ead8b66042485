"""States packed without their empty cells come back to the bit."""

import pytest
import torch

from delira_nca.training.pool import pack_states, unpack_states


@pytest.mark.parametrize("shape", [(3, 16, 5, 7), (2, 4, 9), (1, 5, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_round_trip_is_exact(shape, dtype):
    states = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    states[torch.rand(shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(1)).expand(shape) < 0.7] = 0
    packed = pack_states(states)
    assert torch.equal(unpack_states(packed), states)
    assert len(packed["values"]) == int((states != 0).any(1).sum()) < states[:, 0].numel()


def test_sign_of_a_zero_and_nan_survive():
    states = torch.zeros(1, 2, 2, 2)
    states[0, 0, 0, 0], states[0, 1, 1, 1] = -0.0, torch.nan
    back = unpack_states(pack_states(states))
    assert torch.equal(back.view(torch.int32), states.view(torch.int32))


def test_nothing_alive_packs_to_nothing():
    packed = pack_states(torch.zeros(4, 3, 6, 6))
    assert packed["values"].shape == (0, 3)
    assert torch.equal(unpack_states(packed), torch.zeros(4, 3, 6, 6))
