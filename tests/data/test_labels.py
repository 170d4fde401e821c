"""What mask files are read as, one by one and all together."""

import numpy as np
import pytest
from PIL import Image

from samfast.data.labels import HALF, SMOOTH, encode_labels, meaning, read_labels
from samfast.data.readers.base import IGNORE
from samfast.errors import DataError


def facts(*arrays):
    return [dict(encode_labels(np.asarray(array)).facts) for array in arrays]


def blurred(mask, radius=3):
    from PIL import ImageFilter

    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(radius)))


@pytest.fixture
def areas():
    """A mask of background, three areas and a border of 255."""
    labels = np.zeros((60, 80), np.uint8)
    labels[5:30, 5:40] = 1
    labels[30:55, 10:30] = 2
    labels[10:50, 50:70] = 3
    labels[9, 50:70] = 255
    return labels


def test_grey_values_are_read_as_they_are(encoded, areas):
    np.testing.assert_array_equal(read_labels(encoded(areas), "m.png"), areas)
    wide = areas.astype(np.uint16) * 250
    np.testing.assert_array_equal(read_labels(encoded(wide), "m.png"), wide)
    np.testing.assert_array_equal(read_labels(encoded(np.dstack([areas] * 3)), "m.png"), areas)
    whole = areas.astype(np.float32)
    np.testing.assert_array_equal(read_labels(encoded(whole, "TIFF"), "m.tif"), areas)


def test_one_bit_masks_are_binary(encoded):
    mask = np.eye(20, dtype=bool)
    np.testing.assert_array_equal(read_labels(encoded(Image.fromarray(mask)), "m.png") > 0, mask)


def test_coloured_palettes_are_indices_and_grey_ones_are_greys(encoded):
    index = np.random.default_rng(0).integers(0, 3, (10, 12)).astype(np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    np.testing.assert_array_equal(read_labels(encoded(image), "voc.png"), index)
    image.putpalette([255, 255, 255, 0, 0, 0, 7, 7, 7])  # an optimiser has put white first
    np.testing.assert_array_equal(read_labels(encoded(image), "m.png"), np.array([255, 0, 7])[index])


def test_colours_that_are_no_greys_are_refused_with_a_way_out(encoded):
    mask = np.zeros((20, 20, 3), np.uint8)
    mask[5:9] = (128, 0, 0)
    with pytest.raises(DataError, match=r"colour mask.*\(128, 0, 0\)") as caught:
        read_labels(encoded(mask), "colours.png")
    assert "fix" in str(caught.value)
    jpeg = encoded(np.dstack([blurred(np.kron(np.eye(4), np.ones((9, 9))).astype(np.uint8) * 255)] * 3), "JPEG")
    assert read_labels(jpeg, "m.jpg").ndim == 2  # what JPEG's rounding does to greys is no colour


def test_a_mask_in_the_alpha_channel_is_not_read_as_empty(encoded):
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[5:9, :, 3] = 255
    with pytest.raises(DataError, match="alpha"):
        read_labels(encoded(rgba), "m.png")
    rgba[..., 3] = 255
    rgba[5:9, :, :3] = 255
    assert read_labels(encoded(rgba), "m.png").sum() == 255 * 80


def test_values_that_are_no_classes_are_refused(encoded):
    with pytest.raises(DataError, match="whole numbers"):
        read_labels(encoded(np.full((4, 4), 0.5, np.float32), "TIFF"), "m.tif")
    with pytest.raises(DataError, match="negative"):
        read_labels(encoded(np.full((4, 4), -1, np.int32), "TIFF"), "m.tif")
    with pytest.raises(DataError, match="instance label map"):
        encode_labels(np.arange(400, dtype=np.uint16).reshape(20, 20))


def test_each_value_becomes_one_exact_mask(areas):
    raw = encode_labels(areas)
    assert raw.codes == (1, 2, 3, 255, HALF)
    expected = [*(areas == value for value in (1, 2, 3, 255)), areas >= 128]
    np.testing.assert_array_equal(raw.masks.numpy(), expected)
    assert raw.facts[2] == (areas == 2).sum()


def test_many_greys_keep_only_the_half(areas):
    smooth = blurred((areas == 1).astype(np.uint8) * 255)
    raw = encode_labels(smooth)
    assert raw.codes == (HALF,)
    assert raw.facts[SMOOTH] == len(np.unique(smooth)) - 1
    np.testing.assert_array_equal(raw.masks.numpy()[0], smooth >= 128)


@pytest.mark.parametrize("value", [1, 255, 128, 65535])
def test_one_value_is_binary_whatever_it_is(areas, value):
    mask = ((areas == 1) * value).astype(np.uint16 if value > 255 else np.uint8)
    coding = meaning(facts(mask, np.zeros_like(mask)))
    assert coding.classes == ("foreground",)
    assert coding.read(facts(mask)[0]).classes == {value: 0}
    assert coding.read({}).classes == {}


def test_class_indices_with_255_ignored(areas):
    coding = meaning(facts(areas, np.where(areas == 1, 1, 0).astype(np.uint8)))
    assert coding.classes == ("1", "2", "3")
    assert coding.read(facts(areas)[0]).classes == {1: 0, 2: 1, 3: 2, 255: IGNORE}
    only_ignore = np.where(areas > 200, 255, 0).astype(np.uint8)
    assert coding.read(facts(only_ignore)[0]).classes == {255: IGNORE}  # one file alone would say foreground


def test_one_class_beside_ignore(areas):
    labels = np.where(areas == 3, 1, np.where(areas == 255, 255, 0)).astype(np.uint8)
    coding = meaning(facts(labels))
    assert coding.classes == ("1",)
    assert coding.read(facts(labels)[0]).classes == {1: 0, 255: IGNORE}


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_small_classes_beside_a_large_ignored_area_are_classes(classes):
    labels = np.zeros((60, 80), np.uint8)
    labels[10:35, 10:50] = 255  # 1000 pixels
    for value in range(1, classes + 1):
        labels[40:43, 10 * value : 10 * value + 3] = value  # 9 pixels each
    coding = meaning(facts(labels, labels * (labels < 255)))
    assert coding.classes == tuple(str(value) for value in range(1, classes + 1))
    assert coding.read(facts(labels)[0]).classes == {
        255: IGNORE,
        **{value: value - 1 for value in range(1, classes + 1)},
    }


@pytest.mark.parametrize("greys", ["a blurred file", "a gap"])
def test_specks_among_scattered_greys_do_not_turn_foreground_into_ignore(greys):
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 10:60] = 255
    smooth = blurred(mask)
    mask[10, 10:20] = 1 if greys == "a blurred file" else 2
    coding = meaning(facts(mask, smooth) if greys == "a blurred file" else facts(mask))
    assert coding.classes == ("foreground",)
    reading = coding.read(facts(mask)[0])
    assert reading.classes == {HALF: 0}
    assert reading.problem is not None
    assert reading.problem[0] == "anti-aliased mask"


def test_binary_saved_in_two_ways(areas):
    coding = meaning(facts((areas == 1).astype(np.uint8), (areas == 2).astype(np.uint8) * 255))
    assert coding.classes == ("foreground",)
    one = coding.read({1: 875})
    assert one.classes == {1: 0}
    assert one.problem is not None
    assert not one.excluded
    assert coding.read({255: 5}).problem is None


def test_areas_of_any_values_are_classes(areas):
    cells = np.where(areas == 1, 128, np.where(areas == 2, 255, 0)).astype(np.uint8)
    coding = meaning(facts(cells, cells[::-1]))
    assert coding.classes == ("128", "255")
    assert coding.read(facts(cells)[0]).classes == {128: 0, 255: 1}


def test_blurred_edges_are_no_classes(areas):
    small = np.asarray(Image.fromarray((areas == 1).astype(np.uint8) * 255).resize((33, 25), Image.Resampling.BOX))
    assert 2 < len(np.unique(small)) < 20
    coding = meaning(facts(small))
    assert coding.classes == ("foreground",)
    reading = coding.read(facts(small)[0])
    assert reading.classes == {HALF: 0}
    assert reading.problem is not None
    assert not reading.excluded


def test_a_faint_binary_file_among_blurred_ones_is_not_lost(areas):
    coding = meaning(facts(blurred((areas == 1).astype(np.uint8) * 255), (areas == 2).astype(np.uint8)))
    assert coding.read(facts((areas == 2).astype(np.uint8))[0]).classes == {1: 0}


def test_a_blurred_file_among_class_indices_is_excluded(areas):
    coding = meaning(facts(areas, areas, blurred(areas * 80)))
    assert coding.classes == ("1", "2", "3")
    assert coding.read(facts(blurred(areas * 80))[0]).excluded


def test_all_black_is_binary_and_empty(areas):
    coding = meaning(facts(areas * 0, areas * 0))
    assert coding.classes == ("foreground",)
    assert coding.read({}).classes == {}
