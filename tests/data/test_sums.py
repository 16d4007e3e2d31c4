"""Sums by key."""

from __future__ import annotations

import numpy as np

from firstlight.data.sums import add_by_key, add_padded


def test_values_under_the_same_key_are_added():
    one, other = {"a": np.array([1, 2])}, {"a": np.array([3, 4]), "b": np.array([5])}
    total = add_by_key(one, other)
    assert total["a"].tolist() == [4, 6]
    assert total["b"].tolist() == [5]
    assert one["a"].tolist() == [1, 2]
    assert list(other) == ["a", "b"]


def test_shorter_arrays_are_added_at_the_beginning():
    one, other = np.array([[1, 2], [3, 4]]), np.array([[10, 20, 30], [40, 50, 60]])
    expected = [[11, 22, 30], [43, 54, 60]]
    assert add_padded(one, other).tolist() == expected
    assert add_padded(other, one).tolist() == expected
    assert one.tolist() == [[1, 2], [3, 4]]
    assert other[0].tolist() == [10, 20, 30]
