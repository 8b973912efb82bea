"""Points of a rate: few, evenly spaced, with the true first and last."""

import pytest

from faceattr.jobs.cluster.progress import RateSamples
from faceattr.reports.label import mean_rate


def test_a_short_run_keeps_a_point_every_half_second():
    samples = RateSamples()
    for number in range(21):  # every tenth of a second, from the first second on
        samples.add(1 + number / 10, number)
    samples.add(3.2, 22, is_last=True)
    assert samples.points == [(1.0, 0), (1.5, 5), (2.0, 10), (2.5, 15), (3.0, 20), (3.2, 22)]


def test_ten_days_fit_into_a_few_hundred_points_that_cover_them_evenly():
    samples = RateSamples()
    for second in range(0, 864_000, 2):
        samples.add(second, 3 * second)
    samples.add(864_001, 2_592_003, is_last=True)
    assert 200 <= len(samples.points) <= 401
    assert samples.points[0] == (0, 0)
    assert samples.points[-1] == (864_001, 2_592_003)
    gaps = [after - before for (before, _), (after, _) in zip(samples.points, samples.points[1:], strict=False)]
    assert max(gaps) <= 2 * sorted(gaps)[len(gaps) // 2]
    assert all(rows == 3 * seconds for seconds, rows in samples.points)


def test_the_rate_of_a_run_leaves_its_starts_out_and_is_not_told_of_a_moment():
    long = {"samples": [(20.0, 100), (25.0, 600), (40.0, 1_100)]}  # 1,000 rows in 20 s
    short = {"samples": [(12.0, 50), (12.5, 350)]}  # 300 rows in .5 s, two bursts
    assert mean_rate([long]) == 50.0
    assert mean_rate([long, short]) == pytest.approx(1_300 / 20.5)
    assert mean_rate([short]) is None
    assert mean_rate([{"samples": []}]) is None
