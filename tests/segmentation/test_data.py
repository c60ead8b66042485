"""Samples of a segmentation, as a config names them."""

import pytest

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.segmentation import open_cases, training_patches, whole_cases

PREPROCESSING = {"values": [0, 1]}


@pytest.fixture
def source(pictures):
    return {"images": str(pictures / "images"), "masks": str(pictures / "masks")}


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.25, 1), (0.5, 2), (0.99, 3)])
def test_a_fraction_of_the_cases_is_held_out_and_at_least_one_is_in_each_part(source, share, held):
    parts = [whole_cases(source, PREPROCESSING, part, share).names for part in ("train", "valid")]
    assert len(parts[1]) == held
    assert sorted(sum(parts, ())) == sorted(open_cases(**source).names)
    assert whole_cases(source, PREPROCESSING, "valid", share).names == parts[1]
    patches = training_patches(source, PREPROCESSING, [8, 8], 4, splits=share)
    assert patches.dataset.names == parts[0]


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0, -0.2, float("nan"), True])
def test_a_fraction_is_between_zero_and_one(source, share):
    with pytest.raises(ConfigError, match="splits must be"):
        whole_cases(source, PREPROCESSING, splits=share)


def test_one_case_is_not_divided_and_there_are_two_parts(source, pictures):
    with pytest.raises(UnknownNameError, match="unknown part 'test'"):
        whole_cases(source, PREPROCESSING, "test", 0.5)
    for file in [*pictures.glob("*/*.png")]:
        if file.stem != "case0":
            file.unlink()
    with pytest.raises(ConfigError, match="at least two cases are needed"):
        whole_cases(source, PREPROCESSING, splits=0.5)
