"""The shape of a pulse: its published numbers, its files, its integrals."""

from __future__ import annotations

import numpy as np
import pytest

from firstlight.detectors.digicam.pulse import PulseTemplate
from firstlight.errors import InputError, UsageError

# published numbers of the measured shape [ns]
_FACTS = {
    "I1": 17.966, "I2": 12.374, "I3": 10.177, "width": 16.40, "rise": 8.28, "peak": 14.72, "duration": 88.0,
    "sum of 7": 4.147, "sum of 5": 3.719, "sampled maximum": 0.987,
}  # fmt: skip


def _numbers(pulse):
    return {
        **{f"I{power}": pulse.integral(power) for power in (1, 2, 3)},
        "width": pulse.width(),
        "rise": pulse.rise_time(),
        "peak": pulse.peak_time,
        "duration": pulse.duration,
        "sum of 7": pulse.largest_sum(7)[0],
        "sum of 5": pulse.largest_sum(5)[0],
        "sampled maximum": pulse.largest_sum(1)[0],
    }


@pytest.fixture(scope="module")
def folder(sample_data):
    place = sample_data / "digicam" / "pulse"
    if not place.is_dir():
        pytest.skip(f"sample data of the camera not found in {place}")
    return place


@pytest.mark.parametrize("name", _FACTS)
def test_own_shape_has_the_published_numbers(name):
    assert _numbers(PulseTemplate.default())[name] == pytest.approx(_FACTS[name], rel=0.01)


@pytest.mark.parametrize("name", _FACTS)
def test_measured_shape_has_the_published_numbers(folder, name):
    # the last digit of the published numbers; widths were given to a hundredth with linear interpolation
    tolerance = {"width": 0.03, "rise": 0.02, "peak": 0.01, "duration": 1e-9}.get(name, 6e-4)
    found = _numbers(PulseTemplate.read(folder / "pulse_SST-1M_pixel_0.dat"))[name]
    assert found == pytest.approx(_FACTS[name], abs=tolerance)


def test_own_shape_is_not_the_measured_one(folder):
    measured = PulseTemplate.read(folder / "pulse_SST-1M_pixel_0.dat")
    difference = np.abs(measured.at(measured.time) - PulseTemplate.default().at(measured.time))
    assert 0.01 < difference.max() < 0.05


@pytest.mark.parametrize(
    ("name", "integrals", "width"),
    [
        ("pulse_template_all_pixels.txt", (17.579, 12.380, 10.155), None),
        ("pulse_SST-1M_AfterPreampLowGain.dat", (15.551, 9.181, 7.304), 11.84),
    ],
)
def test_other_files(folder, name, integrals, width):
    pulse = PulseTemplate.read(folder / name)
    assert [pulse.integral(power) for power in (1, 2, 3)] == pytest.approx(integrals, abs=6e-4)
    assert (pulse.spread is not None) == name.endswith(".txt")
    if width is not None:
        assert pulse.width() == pytest.approx(width, abs=0.03)


def test_maximum_is_one_whatever_the_unit():
    time = np.arange(0.0, 60.0, 0.7)
    pulse = PulseTemplate(time, 2500.0 * np.exp(-0.5 * ((time - 25.1) / 6.0) ** 2))
    assert pulse.at(pulse.peak_time) == pytest.approx(1.0, abs=1e-4)
    assert pulse.peak_time == pytest.approx(25.1, abs=0.01)
    # of a normal curve: sigma sqrt(2 pi / k)
    for power in (1, 2, 3):
        assert pulse.integral(power) == pytest.approx(6.0 * np.sqrt(2 * np.pi / power), rel=1e-4)
    assert pulse.width() == pytest.approx(6.0 * 2.35482, rel=1e-3)
    assert pulse.at([-0.1, 61.0]).tolist() == [0.0, 0.0]


def test_sum_of_samples_is_a_template():
    pulse = PulseTemplate.default()
    window = pulse.windowed(7)
    assert window.scale == pytest.approx(4.184, abs=0.01)
    assert window.integral(1) * window.scale == pytest.approx(7 * pulse.integral(1), rel=1e-4)
    t = np.linspace(-30.0, 100.0, 57)
    expected = sum(pulse.at(t + 4.0 * k) for k in range(-3, 4))
    assert window.scale * window.at(t) == pytest.approx(expected, abs=2e-4)
    early = pulse.windowed(7, before=0)
    assert early.at(t - 12.0) == pytest.approx(window.at(t), abs=2e-4)
    assert window.windowed(1).scale == pytest.approx(window.scale, rel=1e-4)
    # the largest sum over phases is at most that of the best phase
    assert pulse.largest_sum(7)[0] < window.scale


def test_moments_are_those_of_the_formulas():
    pulse = PulseTemplate.default()
    gain, smearing, crosstalk, rate = 5.0, 0.8, 0.1, 3e-3
    found = pulse.moments(rate, gain, smearing, crosstalk)
    # of a Borel number of avalanches, summed up term by term
    n = np.arange(1, 60)
    log_n = np.cumsum(np.log(n))
    p = np.exp(-crosstalk * n + (n - 1) * np.log(crosstalk * n) - log_n)
    first, second, third = (float((p * n**k).sum()) for k in (1, 2, 3))
    assert p.sum() == pytest.approx(1.0)
    assert found.mean == pytest.approx(rate * pulse.integral(1) * gain * first)
    charge_2 = gain**2 * second + smearing**2 * first
    assert found.variance == pytest.approx(rate * pulse.integral(2) * charge_2)
    charge_3 = gain**3 * third + 3 * gain * smearing**2 * second
    assert found.third == pytest.approx(rate * pulse.integral(3) * charge_3)
    many = pulse.moments(np.array([rate, 2 * rate]), gain)
    assert many.mean.shape == (2,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no numbers"),
        ("# time amplitude\n", "no numbers"),
        ("0 1 2 3\n", "line 1 does not have 2 or 3 numbers"),
        ("0 0\n1 1\n2 one\n3 0\n", "line 3 does not have 2 numbers"),
        ("0 0\n1 1\n2 0 1\n", "line 3 does not have 2 numbers"),
        ("0 0\n1 1\n2 0\n", "four points"),
        ("0 0\n2 1\n2 1\n9 0\n", "point 3 is at 2 ns"),
        ("0 0\n2 nan\n4 1\n9 0\n", "point 2 is not finite"),
        ("0 0\n2 -1\n4 -2\n9 0\n", "no amplitude is above zero"),
        ("0 0\n1 1\n2 1\n3 0\n", "less than a sample"),
    ],
)
def test_files_that_are_no_templates_are_refused(tmp_path, content, message):
    path = tmp_path / "pulse.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        PulseTemplate.read(path)
    assert str(path) in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        PulseTemplate.read(tmp_path / "none.txt")
    (tmp_path / "binary.dat").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="it is not text"):
        PulseTemplate.read(tmp_path / "binary.dat")


def test_commas_and_comments_are_understood(tmp_path):
    path = tmp_path / "pulse.csv"
    path.write_text("# ns, V\n0, 0, 0\n\n4, 2, 0.1  # top\n8, 1, 0.1\n12, 0, 0\n", encoding="utf-8")
    pulse = PulseTemplate.read(path)
    assert pulse.time.tolist() == [0.0, 4.0, 8.0, 12.0]
    assert pulse.amplitude.tolist() == [0.0, 1.0, 0.5, 0.0]
    assert pulse.spread[1] / pulse.amplitude[1] == pytest.approx(0.05)


def test_impossible_requests_are_refused():
    pulse = PulseTemplate.default()
    with pytest.raises(UsageError, match="h\\^0"):
        pulse.integral(0)
    with pytest.raises(UsageError, match="a sum of 0 samples"):
        pulse.windowed(0)
    with pytest.raises(UsageError, match="4 of them before"):
        pulse.windowed(3, before=4)
    with pytest.raises(UsageError, match="four points"):
        PulseTemplate(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
