import pytest

from delira_nca.models import BasicNCAModel, presets


@pytest.mark.parametrize("name", presets.__all__)
def test_every_preset_makes_models_of_its_own_that_can_be_described(name):
    preset = getattr(presets, name)
    first, second = BasicNCAModel(**preset()), BasicNCAModel(**preset())
    assert BasicNCAModel.from_dict(first.to_dict()).to_dict() == second.to_dict()
    assert BasicNCAModel(**preset(fire_rate=0.125)).fire_rate == 0.125


def test_growing_is_the_model_of_the_article():
    model = BasicNCAModel(**presets.growing())
    assert model.num_trainable_parameters() == 8336
    assert (model.num_channels, model.num_fixed_channels, model.fire_rate) == (16, 0, 0.5)
    assert (model.alive.channel, model.alive.threshold, model.alive.before, model.alive.after) == (3, 0.1, True, True)
    assert model.perception.filters == ("identity", "sobel")
    assert model.perception.padding == "zeros"
    assert model.training_timesteps == (64, 96)
    assert model.skips_dead_space
