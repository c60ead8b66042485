"""How many steps go into a frame, in Node."""

import pytest

PLAY = """
  performance.now = () => 0; // however slow this machine is
  let steps = 0;
  const player = new Player(() => ++steps, () => (given.most ?? Infinity) - steps);
  Object.assign(player, { playing: true, stepSeconds: 1e-4 }, given.options);
  const frames = given.times.map((now) => player.frame(now, () => {}));
  return { steps, frames, rate: player.rate(given.times.at(-1)) };
"""


@pytest.fixture
def play(node):
    """Frames at some times in milliseconds."""
    return lambda times, most=None, **options: node(PLAY, times=list(times), most=most, options=options)


@pytest.mark.parametrize("speed", [1, 7, 30, 60, 200])
@pytest.mark.parametrize("every", [8, 16, 40])
def test_speed_is_kept_whatever_the_frames_are(speed, every, play):
    played = play(range(0, 4001, every), speed=speed)
    assert played["steps"] == pytest.approx(4 * speed, abs=1)
    assert played["rate"] == pytest.approx(speed, abs=max(1, speed * every / 1000 + 1))


def test_fastest_fills_the_time_of_a_frame_pauses_and_long_absences_are_not_made_up_for(play):
    assert play([0, 16], speed=512, stepSeconds=0.001)["frames"][0] == 25
    assert play([0, 60_000], speed=40)["steps"] <= 10
    assert play(range(0, 1000, 16), playing=False) == {"steps": 0, "frames": [0] * 63, "rate": 0}


@pytest.mark.parametrize("speed", [100, 512])
def test_slow_steps_come_one_in_a_frame(speed, play):
    """The page answers between them, and what was not done is not owed."""
    assert play([0, 200, 400], speed=speed, stepSeconds=0.1)["frames"][1] == 1


@pytest.mark.parametrize("speed", [8, 100, 512])
def test_no_more_steps_are_made_than_are_left(speed, play):
    assert play(range(0, 4001, 16), most=25, speed=speed)["steps"] == 25
