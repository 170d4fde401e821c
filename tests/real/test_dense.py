"""Training on images that hold more objects than an epoch asks for."""

import tracemalloc

import numpy as np
import pytest

from samfast.data import load_dataset
from samfast.models.architecture import get_architecture
from samfast.train.batches import make_batch
from samfast.train.config import TrainConfig
from samfast.train.regimes import choose_objects
from samfast.train.targets import visible

pytestmark = pytest.mark.real
AT_MOST = 16


@pytest.fixture(scope="module")
def nuclei(real_data):
    return load_dataset(real_data / "nuclei")


@pytest.fixture(scope="module")
def densest(nuclei):
    return sorted(nuclei.samples, key=lambda sample: -len(sample.annotation_ids))[:4]


def batch_of(nuclei, samples, *, at_most):
    spec = get_architecture("tiny").spec
    config = TrainConfig.make(model="tiny", max_prompts=at_most, device="cpu")
    return make_batch(nuclei, samples, lambda samples: {}, config, spec, epoch=1)


def test_every_object_has_its_turn_before_one_comes_again(nuclei, densest):
    target = visible(nuclei.target(densest[0]))
    count = len(target.ids)
    assert count > 80
    turns = -(-count // AT_MOST)
    chosen = [
        choose_objects(target.ids, densest[0].key, seed=0, epoch=epoch, at_most=AT_MOST)
        for epoch in range(1, turns + 1)
    ]
    assert max(map(len, chosen)) <= AT_MOST
    assert sorted(np.concatenate(chosen)) == list(range(count))


def test_a_batch_is_as_large_as_what_is_asked_for(nuclei, densest):
    batch = batch_of(nuclei, densest, at_most=AT_MOST)
    assert len(densest) * 2 * 10 < len(batch) <= len(densest) * 2 * AT_MOST
    assert batch.share.sum() / batch.whole == pytest.approx(1)
    peaks = {}
    for at_most in (AT_MOST, 10**6):
        tracemalloc.start()
        batch = batch_of(nuclei, densest, at_most=at_most)
        held = batch.target.nbytes
        peaks[at_most] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        assert peaks[at_most] < 3 * held / 2**20
    assert peaks[10**6] > 4 * peaks[AT_MOST]
