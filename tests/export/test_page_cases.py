"""Cases of a segmentation on a live page."""

import json
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.export import to_html
from delira_nca.export.cases import LARGEST_CASE, PageCase, page_cases
from delira_nca.models import BasicNCAModel

HORIZON = 7
ORANGE, GREEN = torch.tensor([226.0, 87.0, 44.0]), torch.tensor([47.0, 168.0, 92.0])


def segmenting(image=1, output=1):
    return BasicNCAModel(
        num_image_channels=image,
        num_hidden_channels=6,
        num_output_channels=output,
        hidden_size=16,
        training_timesteps=(5, 12),
        inference_timesteps=HORIZON,
    )


def case(name="one", shape=(12, 16), channels=1, num_classes=2):
    source = torch.Generator().manual_seed(len(name))
    reference = torch.zeros(shape, dtype=torch.int64)
    reference[3:8, 4:9] = num_classes - 1
    return PageCase(name, torch.randn(channels, *shape, generator=source), reference)


def data_of(path):
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', path.read_text(), re.S)[1])


class Samples(list):
    def __init__(self, labels, channels=2):
        def image(label):
            return np.stack([np.arange(label.size, dtype=float).reshape(label.shape)] * channels)

        super().__init__({"data": image(label), "label": label[np.newaxis]} for label in labels)
        self.names = [f"case {k}" for k in range(len(labels))]


# Which cases are on the page ------------------------------------------------------------------------------------------


def test_cases_with_a_foreground_come_first_and_are_at_most_four():
    labels = [np.full((4, 4), k % 2) for k in range(6)]
    assert [found.name for found in page_cases(Samples(labels))] == ["case 1", "case 3", "case 5", "case 0"]
    assert [found.name for found in page_cases(Samples(labels), 2)] == ["case 1", "case 3"]


@pytest.mark.parametrize("corner", [(0, 0), (150, 300), (270, 480)])
def test_a_large_case_is_cropped_around_its_foreground(corner):
    label = np.zeros((300, 500), np.int64)
    rows, columns = (slice(at, at + 20) for at in corner)
    label[rows, columns] = 1
    samples = Samples([label])
    (found,) = page_cases(samples)
    assert found.image.shape == (2, LARGEST_CASE, LARGEST_CASE)
    assert found.reference.sum() == 400
    inside = samples[0]["data"][0][label > 0]
    assert_close(found.image[0][found.reference > 0], torch.from_numpy(inside).float(), rtol=0, atol=0)


def test_of_a_foreground_that_is_larger_the_middle_of_a_part_is_shown():
    label = np.zeros((1000, 8), np.int64)
    label[[0, 999]] = 1
    (found,) = page_cases(Samples([label]))
    assert found.image.shape == (2, LARGEST_CASE, 8)
    assert found.reference.any()


def test_cases_images_references_and_horizon_are_in_the_page(tmp_path):
    model, cases = segmenting(), [case(), case("another", (9, 10))]
    page = data_of(to_html(model, tmp_path / "live.html", cases=cases))
    assert page["task"] == "segment"
    assert page["horizon"] == HORIZON
    assert page["grid"] == [12, 16]
    assert [found["name"] for found in page["cases"]] == ["one", "another"]
    assert [found["image"]["shape"] for found in page["cases"]] == [[1, 12, 16], [1, 9, 10]]
    assert page["cases"][0]["image"]["type"] == "float32"
    assert page["cases"][1]["reference"]["shape"] == [9, 10]
    assert data_of(to_html(model, tmp_path / "live.html"))["cases"] == []
    assert data_of(to_html(model, tmp_path / "live.html"))["horizon"] == 12


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cases": [case(), case()]}, ConfigError, "each case of a page has a name of its own"),
        ({"cases": [case(channels=2)]}, ShapeError, r"the image of case 'one' is \(1, h, w\), not \(2, 12, 16\)"),
        (
            {"cases": [PageCase("one", torch.zeros(1, 4, 4), torch.zeros(4, 5))]},
            ShapeError,
            r"is \(4, 4\), not \(4, 5\)",
        ),
        ({"cases": [case(num_classes=4)]}, ConfigError, r"'one' holds \[3\]; the classes are 0 to 1"),
        (
            {"cases": [PageCase("one", torch.full((1, 4, 4), torch.nan), torch.zeros(4, 4))]},
            ConfigError,
            "the image of case 'one' holds NaN or infinity",
        ),
        ({"cases": [case()], "grid": (8, 8)}, ConfigError, "leave grid out"),
        ({"cases": [case()], "image": torch.zeros(1, 4, 4)}, ConfigError, "leave image out"),
        ({"cases": [case()], "classes": ["a"]}, ConfigError, "cases are segmented; this page is to classify"),
    ],
)
def test_cases_that_do_not_fit_are_named(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        to_html(segmenting(), tmp_path / "live.html", **options)
    assert not (tmp_path / "live.html").exists()


# In a browser ---------------------------------------------------------------------------------------------------------


def dice_of(mask, reference):
    kinds = [k for k in range(1, 9) if (mask == k).any() or (reference == k).any()]
    shares = [2 * ((mask == k) & (reference == k)).sum() / ((mask == k).sum() + (reference == k).sum()) for k in kinds]
    return float(sum(shares) / len(shares)) if kinds else 1.0


def classes_of(prediction):
    logits = prediction.pred[0]
    return (logits[0] > 0).long() if len(logits) == 1 else logits.argmax(0)


@pytest.mark.parametrize("output", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("engine", ["javascript", pytest.param("webgl", marks=pytest.mark.slow)])
def test_page_stops_at_the_horizon_with_the_mask_of_the_prediction_and_runs_on(engine, output, open_page, randomise):
    model = randomise(segmenting(3, output), 0.3)
    cases = [case("one", (12, 16), 3, max(2, output)), case("another", (9, 10), 3, max(2, output))]
    page = open_page(model, f"engine={engine}", cases=cases, random_seed=5)
    for number, given in enumerate(cases):
        page.until("!live.player.playing && live.world.t > 0")
        assert page.t == HORIZON
        assert page.at("#play").text == "Run on"
        prediction = model.predict(given.image[None], seed=5)
        state = prediction.output_image
        assert_close(page.state, state, rtol=1e-4, atol=1e-4)
        mask = classes_of(prediction)
        assert page("return [...live.mask]") == mask.flatten().tolist()
        dice = dice_of(mask, given.reference)
        assert page("return live.dice") == pytest.approx(dice)
        assert page.at("#distance output").text == f"{dice:.3f}"
        assert page.announced == f"Stopped at step {HORIZON}, the horizon. Dice score {dice:.3f}."
        if number == 0:
            page.choose("#cases", "another")
    page.at("#play").click()
    page.until("live.world.t > given[0] + 2", HORIZON)
    page.at("#play").click()
    page.at("#restart").click()
    assert page.t < HORIZON
    page.until("!live.player.playing")
    assert page.t == HORIZON
    assert_close(page.state, state, rtol=1e-4, atol=1e-4)
    assert page.complaints() == []


def test_mask_and_outline_of_the_reference_are_drawn_over_the_image_and_damage_leaves_it(open_page):
    given = case()
    page = open_page(segmenting(), cases=[given])
    x = page.state
    x[0, 1:] = 20.0
    page.state = x
    low, high = np.quantile(given.image.numpy(), (0.005, 0.995))
    grey = (255 * ((given.image[0] - low) / (high - low)).clamp(0, 1)).unsqueeze(-1).expand(-1, -1, 3)
    inside = given.reference > 0
    outline = inside.clone()
    outline[4:7, 5:8] = False
    outline = outline.unsqueeze(-1)
    mask = grey + 0.6 * (ORANGE - grey)
    wanted = {
        "Reference": torch.where(outline, GREEN, grey),
        "Both": torch.where(outline, GREEN, mask),
        "Image": grey,
        "Mask": mask,
    }
    for name, colours in wanted.items():
        page.choose("#overlays", name)
        assert_close(page.colours, colours, rtol=0, atol=1.5)
    page.press("#brush", "\ue011")
    page.drag((5, 5))
    after = page.state
    assert torch.equal(after[:, 0], x[:, 0])
    assert not after[0, 1:, 5, 5].any()
    assert after[0, 1:, 0, 0].all()


def test_a_page_of_cases_is_not_wider_than_a_phone_and_offers_no_other_pictures(open_page):
    names = ["a name of a case that is longer than a phone is wide by far", "two", "three", "four"]
    page = open_page(segmenting(), cases=[case(name) for name in names], width=390)
    assert page("return document.scrollingElement.scrollWidth") <= 390
    wide = page("""
      return [...document.querySelectorAll("button, canvas, section, .choice, .choice label")]
        .filter((each) => each.offsetParent && each.getBoundingClientRect().right > 390).map((each) => each.outerHTML);
    """)
    assert wide == []
    assert not page.at("#open").is_displayed()
    assert page.at("#restart").text == "Again"
    heights = (
        "return [...document.querySelectorAll('#cases label, #overlays label')].map((label) => label.offsetHeight)"
    )
    assert min(page(heights)) >= 40
