"""A template of known shape: its amplitude is found with the right error, and odd templates are refused."""

from __future__ import annotations

import numpy as np
import pytest

from firstlight.errors import UsageError
from firstlight.fit import Status, fit_many
from firstlight.fit.models.template import make_template


def test_amplitude_and_its_error():
    rng = np.random.default_rng(31)
    shape = np.exp(-0.5 * ((np.arange(40) - 18) / 5) ** 2)
    amplitude = rng.uniform(3, 30, 4000)
    counts = rng.poisson(amplitude[:, None] * shape * 2.0)
    result = fit_many(counts, np.arange(40.0), make_template(shape), exposure=2.0)
    assert (result.status == Status.ok).all()
    # the estimate has a closed form: all counts over all that one unit would give
    np.testing.assert_allclose(result.value("amplitude"), counts.sum(axis=1) / (2.0 * shape.sum()), rtol=1e-6)
    pulls = result.pulls({"amplitude": amplitude})["amplitude"]
    assert abs(pulls.mean()) < 0.1
    assert abs(pulls.std() - 1) < 0.05
    assert 0.035 < np.mean(result.p_value < 0.05) < 0.065


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [[1.0], [2.0]]])
def test_odd_templates_are_refused(values):
    with pytest.raises(UsageError, match="template"):
        make_template(values)
