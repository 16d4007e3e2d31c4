"""Models made of functions."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest

from firstlight.errors import UsageError
from firstlight.fit.many import fit_many
from firstlight.fit.model import Parameter
from firstlight.fit.user import user_model

X = np.arange(0, 50.0)


def decay(x, p):
    return p[0] * np.exp(-p[1] * x)


@numba.njit
def compiled_decay(x, p):
    return p[0] * np.exp(-p[1] * x)


def counts_of_decays(n=50):
    rng = np.random.default_rng(5)
    return rng.poisson(np.tile(40 * np.exp(-0.06 * X), (n, 1)))


@pytest.mark.parametrize("function", [decay, compiled_decay])
def test_user_model_gives_what_the_built_in_gives(function):
    model = user_model(function, ["amplitude", "rate"], lower={"amplitude": 0}, start=[30, 0.05])
    counts = counts_of_decays()
    mine, own = fit_many(counts, X, model), fit_many(counts, X, "exponential")
    assert mine.ok.all()
    assert mine.values == pytest.approx(own.values, rel=1e-4)
    assert mine.errors == pytest.approx(own.errors, rel=1e-4)
    assert mine.deviance == pytest.approx(own.deviance, abs=1e-4)


def test_bounds_and_starts_by_name_or_in_order():
    parameters = [Parameter("amplitude", "height", "y", 0.0), "rate"]
    by_name = user_model(decay, parameters, upper={"rate": 1}, start={"rate": 0.05, "amplitude": 30})
    in_order = user_model(decay, parameters, upper=[np.inf, 1], start=[30, 0.05])
    assert by_name.parameters == in_order.parameters
    assert by_name.constants == in_order.constants == (30.0, 0.05)
    assert by_name.parameters[0].lower == 0
    assert by_name.parameters[0].description == "height"
    assert by_name.parameters[1].upper == 1
    assert by_name.name == "decay"
    assert user_model(decay, "amplitude rate", name="mine").name == "mine"


def mean_start(x, counts, exposure, constants, p):
    p[0] = counts[0] / exposure[0] + 1
    p[1] = 1 / x.mean()


def test_start_may_be_a_function_of_the_data():
    model = user_model(decay, ["amplitude", "rate"], start=mean_start)
    result = fit_many(counts_of_decays(3), X, model)
    assert result.ok.all()
    assert result.start[:, 1] == pytest.approx(1 / X.mean())


def test_without_start_values_they_must_be_given():
    model = user_model(decay, ["amplitude", "rate"])
    with pytest.raises(UsageError, match="no start values"):
        fit_many(counts_of_decays(1), X, model)
    assert fit_many(counts_of_decays(1), X, model, start=[30, 0.05]).ok.all()


def test_functions_of_the_package_can_be_used():
    from firstlight.fit.special import normal_tail

    @numba.njit
    def edge(x, p):
        return p[0] * normal_tail((x - p[1]) / p[2])[0]

    rng = np.random.default_rng(6)
    truth = [50.0, 25.0, 4.0]
    counts = rng.poisson([edge(x, np.array(truth)) for x in X])
    result = fit_many(counts, X, user_model(edge, ["height", "position", "width"], start=[40, 20, 5]))
    assert np.all(np.abs(result.values[0] - truth) < 4 * result.errors[0])


def test_a_probability_is_fitted_to_trials():
    def logistic(x, p):
        return 1 / (1 + np.exp(-(x - p[0]) / p[1]))

    model = user_model(
        logistic, ["threshold", "scale"], start=[20, 2], lower={"scale": 0.1}, kind="probability"
    )
    trials = np.full(X.size, 200)
    counts = np.random.default_rng(7).binomial(200, 1 / (1 + np.exp(-(X - 27) / 3)))
    result = fit_many(counts, X, model, exposure=trials, estimator="binomial")
    assert model.kind == "probability"
    assert abs(result.value("threshold")[0] - 27) < 4 * result.error("threshold")[0]


def strange(x, p):
    return undefined_thing(p[0])  # noqa: F821


def too_many(x, p):
    return p[0] + p[1] * x + p[2]


def returns_nothing(x, p):
    pass


def test_errors_say_why():
    with pytest.raises(UsageError, match="undefined_thing") as raised:
        user_model(lambda x, p: undefined_thing(x), ["a"])  # noqa: F821
    assert "\n" not in raised.value.what
    with pytest.raises(UsageError, match="more parameters than the 2"):
        user_model(too_many, ["a", "b"])
    with pytest.raises(UsageError, match="cannot be compiled") as raised:
        user_model(returns_nothing, ["a"])
    assert "\n" not in raised.value.what
    with pytest.raises(UsageError, match="takes x, not x and p"):
        user_model(lambda x: x, ["a"])
    with pytest.raises(UsageError, match="not of int"):
        user_model(3, ["a"])
    with pytest.raises(UsageError, match="at least one parameter"):
        user_model(decay, [])
    with pytest.raises(UsageError, match="two parameters have the name 'a'"):
        user_model(decay, ["a", "a"])
    with pytest.raises(UsageError, match="unknown parameter 'ratte'"):
        user_model(decay, ["amplitude", "rate"], lower={"ratte": 0})
    with pytest.raises(UsageError, match="1 start values for 2 parameters"):
        user_model(decay, ["amplitude", "rate"], start=[1])
    with pytest.raises(UsageError, match="start values of rate are missing"):
        user_model(decay, ["amplitude", "rate"], start={"amplitude": 1})
    with pytest.raises(UsageError, match="bounds of 'rate'"):
        user_model(decay, ["amplitude", "rate"], lower={"rate": 2}, upper={"rate": 1})
    with pytest.raises(UsageError, match="kind of model"):
        user_model(decay, ["amplitude", "rate"], kind="chance")


PROGRAM = """
    import numpy as np
    from firstlight.fit.user import user_model

    def bend(x, p):
        return p[0] + p[1] * np.sqrt(x + 1.0)

    model = user_model(bend, ["offset", "slope"], start=[1, 1])
    hits = sum(model.scalar.stats.cache_hits.values())
    misses = sum(model.scalar.stats.cache_misses.values())
    print(hits, misses, model.scalar(3.0, np.array([1.0, 2.0])))
"""


def run(path, cache, source=None):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    given = [sys.executable, str(path)] if source is None else [sys.executable, "-"]
    done = subprocess.run(given, input=source, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def test_second_process_compiles_nothing(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    assert run(path, tmp_path / "cache") == ["0", "1", "5.0"]
    assert run(path, tmp_path / "cache") == ["1", "0", "5.0"]
    path.write_text(textwrap.dedent(PROGRAM).replace("p[1] *", "2 * p[1] *"), encoding="utf-8")
    assert run(path, tmp_path / "cache") == ["0", "1", "9.0"]


def test_typed_in_functions_work_without_a_file(tmp_path):
    assert run(None, tmp_path / "cache", textwrap.dedent(PROGRAM))[2] == "5.0"
