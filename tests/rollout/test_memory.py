import pytest
import torch

from delira_nca.rollout.memory import measure_saved_bytes, segment_length


def test_what_a_product_keeps_is_counted_once_and_without_what_exists_anyway():
    weight = torch.ones(10, 10, requires_grad=True)
    x = torch.ones(10, 10, requires_grad=True)

    def product():
        inner = x.exp()  # keeps its result, which the product keeps as well
        return inner * weight

    result, saved = measure_saved_bytes(product, [weight, x])
    assert saved == 400
    assert torch.equal(result, torch.ones(10, 10).exp())
    assert measure_saved_bytes(product, [x])[1] == 800
    result.sum().backward()
    assert torch.equal(weight.grad, result.detach())


def test_nothing_is_counted_without_a_graph():
    with torch.no_grad():
        assert measure_saved_bytes(lambda: torch.ones(4).exp(), [])[1] == 0


@pytest.mark.parametrize(
    ("steps", "step_bytes", "state_bytes", "expected"),
    [
        (100, 100, 100, 10),  # square root of the steps where a step keeps one state
        (100, 400, 100, 5),
        (10, 100, 10, 1),
        (1, 1000, 1, 1),
        (0, 0, 0, 1),
    ],
)
def test_segment_length_has_the_least_memory(steps, step_bytes, state_bytes, expected):
    assert segment_length(steps, step_bytes, state_bytes) == expected

    def kept(length):
        return steps / length * state_bytes + length * step_bytes

    assert all(kept(expected) <= 1.01 * kept(length) for length in range(1, steps + 1))
