"""The prompts of a file, held against a data set before it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from samfast.data import Dataset
from samfast.data.types import Sample
from samfast.errors import DataError
from samfast.inference.given import LEAST_IOU, Given, check_names
from samfast.progress import say
from samfast.train.targets import visible

LISTED = 5


def check_given(given: Given, dataset: Dataset) -> None:
    """Say what of a file is of no use: names that are no images, and prompts that ask for no object, or for several.

    Raises:
        ConfigError: a name could be several images, or a prompt does not lie on its image.
    """
    strangers = check_names(given, dataset.samples)
    _tell(given, f"{len(strangers)} of {len(given.prompts)} names are no images of the data", strangers)
    lost: list[str] = []
    total = 0
    for sample in dataset.samples:
        if prompts := given.of(sample):
            total += len(prompts)
            matches = given.matches(visible(dataset.target(sample)), sample) if sample.state == "labelled" else ()
            lost += [prompt.where for prompt, index in matches if index is None]
    _tell(given, f"{len(lost)} of {total} prompts ask for no object, or for several alike", lost)


def asked_for(given: Given, dataset: Dataset, samples: Sequence[Sample]) -> list[Sample]:
    """The samples with an object that a file asks for.

    Raises:
        DataError: there are none.
    """
    asked = [each for each in samples if given.of(each) and given.attach(visible(dataset.target(each)), each).given]
    if not asked:
        raise DataError(
            f"the file asks for no object of the {samples[0].split} set",
            where=given.path,
            fix="name images as in the data's folder; a point lies in its object, and no other, and a box has an IoU of"
            f" {LEAST_IOU:g} or more with that of its object",
        )
    return asked


def _tell(given: Given, what: str, examples: Sequence[str]) -> None:
    if examples:
        more = ", ..." if len(examples) > LISTED else ""
        say(f"{given.path.name}: {what}: {', '.join(examples[:LISTED])}{more}")
