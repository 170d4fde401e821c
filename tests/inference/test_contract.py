"""The output contract: which token answers, and the warning when nobody taught it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from samfast.errors import ConfigError
from samfast.inference.contract import OutputContract

SCORES = np.array([[0.9, 0.1, 0.3, 0.2], [0.1, 0.2, 0.3, 0.8], [0.5, 0.6, 0.1, 0.1]], np.float32)
ONE_POINT = np.array([True, True, False])


def test_single_answers_with_token_0() -> None:
    np.testing.assert_array_equal(OutputContract().select(SCORES, ONE_POINT, "single"), [0, 0, 0])


def test_best_predicted_asks_the_multimask_tokens_for_a_lone_point_only() -> None:
    np.testing.assert_array_equal(OutputContract().select(SCORES, ONE_POINT, "best-predicted"), [2, 3, 0])


def test_asking_for_untrained_tokens_warns() -> None:
    boxes_only = OutputContract(one_point=(), other=(0,))
    with pytest.warns(UserWarning, match=r"\[1, 2, 3\] were not trained"):
        boxes_only.select(SCORES, ONE_POINT, "best-predicted")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        boxes_only.select(SCORES, ONE_POINT, "single")
        OutputContract().select(SCORES, ONE_POINT, "best-predicted")


def test_unknown_rule_and_round_trip() -> None:
    with pytest.raises(ConfigError, match="oracle"):
        OutputContract().select(SCORES, ONE_POINT, "oracle")  # type: ignore[arg-type]
    contract = OutputContract(one_point=(), other=(0,))
    assert OutputContract.from_dict(contract.to_dict()) == contract
