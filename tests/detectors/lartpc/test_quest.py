"""The Quest on the sample, on simulated tracks never used before, and the scores by themselves."""

from __future__ import annotations

import csv
import runpy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Table
from firstlight.detectors.lartpc.features.columns import FEATURES, TRUTH_FEATURES, feature_row, truth_row
from firstlight.detectors.lartpc.features.measure import measure
from firstlight.detectors.lartpc.features.truth import truth_features
from firstlight.detectors.lartpc.quest import CATEGORIES, QUEST, observable_scores, rank, truth_scores
from firstlight.detectors.lartpc.quest_chances import chances, shape_values
from firstlight.detectors.lartpc.quest_training import (
    CHANCES,
    Sample,
    as_module,
    fit_chances,
    fit_logistic,
    labels_of,
    simulated_rows,
    train,
)
from firstlight.detectors.lartpc.quest_weights import BIASES, WEIGHTS
from firstlight.detectors.lartpc.reading.tracks import load
from firstlight.detectors.lartpc.simulation.generate import simulate_tracks
from firstlight.errors import InputError, UsageError


def tables(tracks) -> tuple[pl.DataFrame, pl.DataFrame]:
    tracks = list(tracks)
    features = [feature_row(measure(track.positions, track.num_e), track) for track in tracks]
    truth = [truth_row(truth_features(track), track) for track in tracks]
    return Table.from_rows(FEATURES, features).frame, Table.from_rows(TRUTH_FEATURES, truth).frame


@pytest.fixture(scope="module")
def sample(lartpc_data):
    with (lartpc_data / "truth_summary.csv").open() as file:
        return tables(load(lartpc_data / row["file"]) for row in csv.DictReader(file))


def winners(ranking: pl.DataFrame) -> dict[str, str]:
    return {row["category"]: row["track"][-11:] for row in ranking.filter(rank=1).iter_rows(named=True)}


@pytest.mark.parametrize("by", ["observable", "truth"])
def test_expected_tracks_of_the_sample_win(sample, by):
    ranking = rank(*sample, by=by)
    QUEST.validate(ranking)
    found = winners(ranking)
    assert found["neat_electron"] in ("T1337831275", "T1337738540")
    assert found["brem_electron"] == "T1338944106"
    assert found["symmetric_pair"] in ("T1332724312", "T1333526475")
    assert found["weird_pair"] in ("T1332924310", "T1332808741")
    # the electron of 3 MeV made one photon of 23 keV, of which nothing is seen
    holds = ranking.filter(pl.col("rank") == 1, pl.col("track").str.ends_with("T1337738540").not_())["holds"]
    assert holds.all()
    assert holds.len() >= 3
    assert ranking["energy"].min() >= 3000


def test_shape_alone_finds_most_without_the_particle(sample):
    found = winners(rank(*sample, kinds="unknown"))
    assert found["neat_electron"] in ("T1337831275", "T1337738540")
    assert found["symmetric_pair"] == "T1333526475"
    assert found["weird_pair"] == "T1332808741"


def test_names_and_order_of_tracks_change_nothing(sample):
    features, _ = sample
    order = np.random.default_rng(3).permutation(features.height)
    names = {name: f"{number:03d}" for number, name in enumerate(features["track"][order])}
    anonymous = features[order].with_columns(pl.col("track").replace(names))
    expected = rank(features).with_columns(pl.col("track").replace(names))
    assert rank(anonymous).equals(expected)


def test_scale_of_charge_changes_no_score(sample):
    features, _ = sample
    assert rank(features.with_columns(charge=pl.col("charge") * 1.3)).equals(rank(features))


# of four winners so many are right, with this standard deviation, in many sets of other simulated tracks
RIGHT, DEVIATION, THREE = 3.5, 0.65, 0.93


def fresh_sets(seeds) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Return the tables of 30 electrons and 60 photons for each seed."""
    sets = []
    for seed in seeds:
        tracks = [
            track
            for place, energy in enumerate((3000.0, 5000.0, 10000.0, 20000.0))
            for particle, n in (("electron", 8 - place % 2), ("photon", 15))
            for track in simulate_tracks(particle, energy, n, 9000 + 10 * seed + place, point_spacing=2e-5)
        ]
        names = [f"{number:03d}" for number in range(len(tracks))]
        sets.append(tuple(table.with_columns(track=pl.Series(names)) for table in tables(tracks)))
    return sets


def right_of_four(sets) -> np.ndarray:
    """Return in how many categories the winner of each set fits."""
    right = []
    for tables_of_set in sets:
        truth = rank(*tables_of_set, by="truth").filter(rank=1)
        assert truth.height == 4
        assert truth["holds"].sum() >= 3
        right.append(int(rank(*tables_of_set).filter(rank=1)["holds"].sum()))
    return np.array(right)


@pytest.fixture(scope="module")
def fresh():
    return fresh_sets(range(4))


def test_tracks_never_seen_before_fit_their_category(fresh):
    right = right_of_four(fresh)
    assert right.mean() > RIGHT - 3 * DEVIATION / np.sqrt(len(fresh))
    assert right.max() >= 3


def test_chances_are_as_often_true_as_they_say(fresh):
    features = [row for table, _ in fresh for row in table.iter_rows(named=True)]
    truth = [row for _, table in fresh for row in table.iter_rows(named=True)]
    said = [chances(row) for row in features]
    for name, (true, among) in labels_of(truth).items():
        if CHANCES[name].balanced:
            continue
        chance, answers = np.array([row[name] for row in said])[among], true[among]
        for part in (chance < 0.5, chance >= 0.5):
            error = np.sqrt((chance[part] * (1 - chance[part])).sum() + 1)
            assert abs(chance[part].sum() - answers[part].sum()) < 3.5 * error, name


@pytest.mark.slow
def test_three_of_four_categories_are_right_in_nine_tenths_of_many_sets():
    right = right_of_four(fresh_sets(range(100, 160)))
    share = np.mean(right >= 3)
    assert share > THREE - 3 * np.sqrt(THREE * (1 - THREE) / 60)
    assert right.mean() == pytest.approx(RIGHT, abs=3 * DEVIATION / np.sqrt(60))


# ---------------------------------------------------------------- training


SMALL = Sample(electrons=12, photons=50, energies=(5e3, 20e3), densities=(1.27,), seed=5)


@pytest.fixture(scope="module")
def small():
    return simulated_rows(SMALL)


def test_training_does_not_depend_on_processes(small):
    both = simulated_rows(replace(SMALL, electrons=6, photons=10), processes=2)
    assert len(both) == 32
    one = [features for features, _ in small]
    # photons of 20 MeV first; a track is the same however many there are
    assert [features for features, _ in both] == one[:10] + one[50:56] + one[62:72] + one[112:118]


def test_weights_are_written_as_they_were_fitted(small, tmp_path):
    weights = fit_chances([features for features, _ in small], [truth for _, truth in small], 30.0)
    (tmp_path / "written_weights.py").write_text(as_module(weights))
    written = runpy.run_path(str(tmp_path / "written_weights.py"))
    assert tuple(written["BIASES"]) == tuple(CHANCES) == tuple(BIASES)
    assert tuple(written["WEIGHTS"]) == weights.names == tuple(WEIGHTS)
    for place, name in enumerate(weights.names):
        expected = [column[place] for column in weights.weights.values()]
        np.testing.assert_allclose(written["WEIGHTS"][name], expected, rtol=5.1e-4)


def test_fit_finds_the_odds_of_a_made_up_rule():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(20000, 3)) * [1.0, 5.0, 1.0]
    logit = 1.5 * values[:, 0] - 0.2 * values[:, 1] - 2.0
    weights, bias = fit_logistic(values, rng.random(20000) < 1 / (1 + np.exp(-logit)), 1.0)
    # errors of some 0.03 for weights of scaled values
    np.testing.assert_allclose(weights * [1, 5, 1], [1.5, -1.0, 0.0], atol=0.12)
    assert bias == pytest.approx(-2.0, abs=0.12)


def test_training_says_what_is_wrong(small):
    features, truth = zip(*small[:20], strict=True)
    with pytest.raises(InputError, match="are examples of"):
        fit_chances(features, truth)
    with pytest.raises(UsageError, match="penalty"):
        fit_chances(features, truth, 0.0)
    with pytest.raises(UsageError, match="0 processes"):
        simulated_rows(SMALL, 0)


@pytest.mark.slow
def test_training_again_on_fewer_tracks_says_the_same():
    again = train(Sample(electrons=150, photons=400, seed=77))
    held = simulated_rows(Sample(electrons=50, photons=150, energies=(5e3, 10e3, 20e3), seed=78))
    features, truth = zip(*held, strict=True)
    values = np.array([[shape_values(row)[name] for name in again.names] for row in features])
    logits = again.logits(values)
    stored = [chances(row) for row in features]
    for name, (_, among) in labels_of(truth).items():
        new = 1 / (1 + np.exp(-logits[name][among]))
        old = np.array([row[name] for row in stored])[among]
        assert np.corrcoef(new, old)[0, 1] > 0.9, name
        # a third of the tracks: 90 weights are known to some tenths, chances to some hundredths
        assert np.sqrt(np.mean((new - old) ** 2)) < 0.12, name


# ---------------------------------------------------------------- scores by themselves


@pytest.fixture(scope="module")
def rows(sample):
    """Return the rows of the sample by the last digits of their names, without what the names would tell."""
    return {row["track"][-11:]: row for row in sample[0].iter_rows(named=True)}


@pytest.fixture(scope="module")
def neat(rows):
    return rows["T1337831275"]


@pytest.fixture(scope="module")
def pair(rows):
    """Return a 10 MeV photon with two arms of equal length at the vertex, as plain as they come."""
    return rows["T1333526475"] | {
        "arm_share": 0.48, "arm_long": 22.0, "arm_short": 20.0, "arm_linearity": 0.9, "fork": 1.0, "vertex_chance": 0.95,
        "vertex_density": 2.0, "q_vertex": 0.06, "q_near": 0.33, "q_middle": 0.62, "q_wide": 0.89, "separable": True,
        "opening": 30.0, "parting": 1.0, "q_trunk": 0.04, "q_lesser": 0.42, "q_greater": 0.44, "reach_lesser": 20.0,
        "reach_greater": 22.0,
    }  # fmt: skip


def test_each_oddity_costs_a_neat_electron(neat):
    best = observable_scores(neat)["neat_electron"].value
    assert best > 0.5
    for change in (
        {"n_satellites": 1, "q_satellites": 0.01},
        {"branch_distance": 3.0, "branch_charge": 0.1, "n_branches": 1},
        {"path": 17.0},
    ):
        assert observable_scores(neat | change)["neat_electron"].value < 0.85 * best, change


UNEQUAL = {
    "arm_share": 0.06, "arm_short": 2.5, "arm_long": 40.0, "q_lesser": 0.05, "q_greater": 0.8, "reach_lesser": 2.5,
    "reach_greater": 40.0, "vertex_density": 1.5,
}  # fmt: skip
RADIATES = {
    "q_satellites": 0.35, "q_largest": 0.1, "q_second": 0.08, "q_third": 0.06, "n_satellites": 15, "n_ahead": 6,
    "q_ahead": 0.2, "f_main": 0.65, "n_beside": 8, "spread": 0.5, "farthest": 300.0,
}  # fmt: skip


def test_each_oddity_costs_a_symmetric_pair(pair):
    best = observable_scores(pair)["symmetric_pair"].value
    assert best > 0.5
    for change in (
        UNEQUAL,
        RADIATES,
        {"q_satellites": 0.03, "q_largest": 0.02, "n_satellites": 2},
        # one arm where there should be two
        {"vertex_density": 1.1, "q_vertex": 0.03, "q_near": 0.17, "separable": False, "opening": None},
        {"q_upstream": 0.09, "q_largest": 0.09},
        {"arm_share": None, "fork": None, "parting": None, "separable": False, "opening": None},
    ):
        assert observable_scores(pair | change)["symmetric_pair"].value < 0.85 * best, change


def test_weird_pair_needs_two_oddities(rows, pair):
    weird = rows["T1332808741"]  # 20 MeV: 13 % of the energy with the positron, 19 % radiated
    both = observable_scores(weird)["weird_pair"].value
    assert both > 0.5
    quiet = {
        "q_satellites": 0.06, "q_largest": 0.015, "q_second": 0.012, "q_third": 0.01, "q_ahead": 0.0, "n_satellites": 6,
        "n_ahead": 0, "n_beside": 5, "n_behind": 1,
    }  # fmt: skip
    half = (weird["q_lesser"] + weird["q_greater"]) / 2
    equal = {
        "arm_share": 0.48, "arm_short": 0.9 * weird["arm_long"], "q_lesser": half, "q_greater": half,
        "reach_lesser": 0.9 * weird["reach_greater"],
    }  # fmt: skip
    for change in (quiet, equal):
        assert observable_scores(weird | change)["weird_pair"].value < 0.6 * both, change
    neither = observable_scores(weird | quiet | equal)["weird_pair"].value
    assert neither < 0.05
    assert observable_scores(pair)["weird_pair"].value < 0.05


def test_kinds_decide_who_takes_part(neat, pair):
    given = observable_scores(neat)
    assert given["symmetric_pair"].value == given["weird_pair"].value == 0
    assert observable_scores(pair)["neat_electron"].value == 0
    unknown = observable_scores(neat, "unknown")["neat_electron"]
    assert unknown.terms["electron"] > 0.8
    assert 0.8 * given["neat_electron"].value < unknown.value < given["neat_electron"].value
    # a track of which nobody says what it is takes part everywhere
    nameless = observable_scores(pair | {"particle": ""})
    assert (
        nameless["symmetric_pair"].value == observable_scores(pair, "unknown")["symmetric_pair"].value > 0.3
    )


def test_energy_is_told_by_the_charge_where_it_is_not_given(pair):
    unnamed = pair | {"energy": None, "charge": 300e3}
    assert observable_scores(unnamed)["symmetric_pair"].value == pytest.approx(
        observable_scores(pair)["symmetric_pair"].value, rel=1e-3
    )


def test_scores_stay_between_zero_and_one_for_rows_without_numbers():
    for row in (
        {"particle": ""},
        {"particle": "electron"},
        {"particle": "photon", "n_satellites": 500, "q_satellites": 1.0},
    ):
        for score in observable_scores(row).values():
            assert 0 <= score.value <= 1


def test_truth_score_is_one_half_exactly_where_the_definition_holds():
    rng = np.random.default_rng(7)
    held = dict.fromkeys(CATEGORIES, 0)
    for _ in range(4000):
        electron = rng.random() < 0.5
        pair = not electron and rng.random() < 0.8
        row = {
            "particle": "electron" if electron else "photon",
            "first": "" if electron else "pair" if pair else "compton",
            "radiated": rng.choice([0.001, 0.02, 0.05, 0.2]),
            "n_hard": int(rng.integers(0, 4)),
            "n_deltas": rng.choice([None, 0, 1]),
            "n_other_pairs": int(rng.integers(0, 2)),
            "around": rng.random(),
            "positron_share": rng.random() if pair else None,
            "shorter_arm": 10 * rng.random() if pair else None,
        }
        share, short = row["positron_share"], row["shorter_arm"]
        expected = {
            "neat_electron": electron
            and row["radiated"] < 0.01
            and not row["n_hard"]
            and not row["n_deltas"],
            "brem_electron": electron and row["radiated"] > 0.1 and row["n_hard"] >= 2,
            "symmetric_pair": pair and 0.4 <= share <= 0.6 and row["radiated"] < 0.03,
            "weird_pair": pair
            and sum([abs(share - 0.5) > 0.3, row["radiated"] > 0.1, row["n_other_pairs"] > 0, short < 2])
            >= 2,
        }
        for name, score in truth_scores(row).items():
            assert score.holds == bool(expected[name])
            assert (score.value >= 0.5) == score.holds
            held[name] += score.holds
    assert min(held.values()) > 20


# ---------------------------------------------------------------- ranking


def test_ranking_keeps_runners_up_in_order(sample):
    ranking = rank(sample[0], runners_up=1)
    for name in CATEGORIES:
        part = ranking.filter(category=name)
        assert part["rank"].to_list() == [1, 2]
        assert part["score"].is_sorted(descending=True)
    # without truth nobody knows whether the definition holds
    assert ranking["holds"].null_count() == ranking.height
    assert "satellites" in ranking["numbers"][0]


def test_equal_scores_come_by_name(neat):
    rows = [neat | {"track": name} for name in ("b", "a", "c")]
    frame = Table.from_rows(
        FEATURES,
        [
            {name: row.get(name) for name in FEATURES.names}
            | {"n_points": 1, "n_voxels": 1, "n_branches": 0, "stops": True, "box": 1.0}
            for row in rows
        ],
    ).frame
    assert rank(frame).filter(category="neat_electron")["track"].to_list() == ["a", "b", "c"]


def test_ranking_of_nothing_is_empty(sample):
    QUEST.validate(rank(sample[0].clear()))
    assert rank(sample[0], minimum_energy=1e6).height == 0


def test_ranking_says_what_is_wrong(sample):
    with pytest.raises(UsageError, match="unknown score 'guess'"):
        rank(sample[0], by="guess")
    with pytest.raises(UsageError, match="given"):
        rank(sample[0], kinds="maybe")
    with pytest.raises(InputError, match="table of truth features"):
        rank(sample[0], by="truth")
