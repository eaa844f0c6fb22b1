"""Published weights: whole and new, or refused."""

import dataclasses
import pickle

import numpy as np
import pytest

from buffer.weights import NONE, Edition, PublishedWeights, WeightsRefused, seal


def arrays() -> dict[str, np.ndarray]:
    return {
        "layer.weight": np.arange(12, dtype=np.int16).reshape(3, 4),
        "layer.bias": np.array([0.5, -1.0], dtype=np.float32),
        "scale": np.array(2.0, dtype=np.float16),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }


DTYPES = {"layer.weight": "bfloat16", "layer.bias": "float32", "scale": "float16", "empty": "float32"}


def sealed(version: int = 3) -> PublishedWeights:
    return seal(version, arrays(), DTYPES)


def test_whole_and_newer_weights_pass_also_through_another_process() -> None:
    weights = sealed()
    weights.verify(newer_than=Edition(0, 2))
    copy = pickle.loads(pickle.dumps(weights))
    copy.verify(newer_than=NONE)
    assert copy.checksum == weights.checksum == sealed().checksum
    assert weights.arrays["scale"].shape == ()


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        sealed().arrays["layer.bias"][0] = 1.0


@pytest.mark.parametrize("loaded", [3, 4])
def test_stale_weights_are_refused(loaded: int) -> None:
    with pytest.raises(WeightsRefused, match=f"version 3 are stale: version {loaded} is loaded"):
        sealed().verify(newer_than=Edition(0, loaded))


def test_an_older_version_by_a_learner_that_started_again_is_newer() -> None:
    again = seal(2, arrays(), DTYPES, incarnation=2)
    again.verify(newer_than=Edition(1, 9))
    with pytest.raises(WeightsRefused, match="stale"):
        seal(9, arrays(), DTYPES, incarnation=1).verify(newer_than=again.edition)


def changed(weights: PublishedWeights, **arrays: np.ndarray) -> PublishedWeights:
    return dataclasses.replace(weights, arrays={**weights.arrays, **arrays})


@pytest.mark.parametrize(
    "tear",
    [
        lambda w: changed(w, **{"layer.bias": np.array([0.5, -1.0001], dtype=np.float32)}),
        lambda w: changed(w, **{"layer.bias": np.array([-1.0, 0.5], dtype=np.float32)}),
        lambda w: changed(w, **{"layer.weight": w.arrays["layer.weight"].reshape(4, 3)}),
        lambda w: changed(w, **{"layer.weight": w.arrays["layer.weight"].view(np.float16)}),
        lambda w: changed(w, **{"layer.weight": w.arrays["layer.weight"][:2]}),
        lambda w: changed(w, more=np.zeros(1, dtype=np.float32)),
        lambda w: dataclasses.replace(w, arrays={k: v for k, v in w.arrays.items() if k != "empty"}),
        lambda w: dataclasses.replace(w, dtypes={**w.dtypes, "layer.weight": "float16"}),
        lambda w: dataclasses.replace(w, version=4),
    ],
)
def test_torn_weights_are_refused(tear: object) -> None:
    with pytest.raises(WeightsRefused, match="torn"):
        tear(sealed()).verify(newer_than=Edition(0, 2))  # type: ignore[operator]


def test_a_write_after_sealing_is_found() -> None:
    written = arrays()
    weights = seal(1, written, DTYPES)
    written["layer.bias"][0] = 7.0
    with pytest.raises(WeightsRefused, match="torn"):
        weights.verify(newer_than=Edition(0, 0))


def test_arrays_that_are_not_contiguous_are_copied() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    weights = seal(0, {"w": turned}, {"w": "float32"})
    weights.verify(newer_than=NONE)
    np.testing.assert_array_equal(weights.arrays["w"], turned)


@pytest.mark.parametrize(
    ("version", "values", "dtypes", "message"),
    [
        (-1, {}, {}, "version -1"),
        (0, {"w": np.zeros(1, np.float32)}, {}, "only one of them has w"),
        (0, {"w": np.zeros(1, np.float32)}, {"w": "bfloat16"}, "int16 for bfloat16"),
        (0, {"w": np.zeros(1, np.float64)}, {"w": "float64"}, "dtype 'float64'"),
    ],
)
def test_seal_refuses(version: int, values: dict[str, np.ndarray], dtypes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seal(version, values, dtypes)
