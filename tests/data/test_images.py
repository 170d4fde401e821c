"""Images as people have them become the RGB that a viewer shows, or an error that says why not."""

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from samfast.data.images import DecodeSpec, check_image, decode_image, image_key, stretch
from samfast.errors import ConfigError, DataError


@pytest.fixture
def smooth():
    rows, columns = np.mgrid[:40, :60]
    return np.stack([rows * 6, columns * 4, (rows + columns) * 2], -1).astype(np.uint8)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_content_decides_and_not_the_extension(smooth, tmp_path, encoded, format):
    options = {"lossless": True} if format == "WEBP" else {}
    source = Image.fromarray(smooth)
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(source, format, **options))
    expected = np.asarray(source.convert("P", palette=Image.Palette.WEB).convert("RGB")) if format == "GIF" else smooth
    found = decode_image(path)
    assert found.dtype == np.uint8
    assert found.shape == smooth.shape
    if format != "GIF":  # quantised
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(smooth, encoded, orientation, format):
    turns = {  # what a viewer does to stored pixels to show them upright
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a[::-1, ::-1].transpose(1, 0, 2), 0),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth, format, exif=exif, **({"quality": 100} if format == "JPEG" else {}))
    found = decode_image(data)
    expected = turns[orientation](smooth)
    assert check_image(data).size == found.shape[:2] == expected.shape[:2]
    assert np.abs(found.astype(int) - expected).mean() < 6  # lossy formats
    wrong = turns[1 if orientation == 3 else 3](smooth)
    if wrong.shape == expected.shape:
        assert np.abs(found.astype(int) - wrong).mean() > 20


def test_grey_and_one_bit_are_repeated(encoded):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode_image(encoded(grey)), np.repeat(grey[..., None], 3, 2))
    bits = Image.fromarray(grey).point(lambda value: 255 * (value > 99)).convert("1")
    np.testing.assert_array_equal(decode_image(encoded(bits))[..., 1], np.where(grey > 99, 255, 0))


def test_alpha_is_dropped(encoded, smooth):
    alpha = np.full(smooth.shape[:2], 255, np.uint8)
    alpha[:10] = 0
    rgba = np.dstack([smooth, alpha])
    np.testing.assert_array_equal(decode_image(encoded(rgba)), smooth)
    grey_alpha = Image.merge("LA", [Image.fromarray(smooth[..., 0]), Image.fromarray(alpha)])
    np.testing.assert_array_equal(decode_image(encoded(grey_alpha))[..., 2], smooth[..., 0])


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0, 128])])
def test_palettes_show_their_colours(encoded, transparency):
    colours = [(10, 20, 30), (200, 100, 0), (0, 0, 255)]
    index = np.random.default_rng(0).integers(0, 3, (12, 9)).astype(np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette([value for colour in colours for value in colour])
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(decode_image(encoded(image, **options)), np.array(colours, np.uint8)[index])


def test_sixteen_bit_greys_are_stretched_between_percentiles(encoded):
    values = np.random.default_rng(1).normal(900, 120, (50, 70)).clip(0, 4095)  # 12 bits in 16
    values[0, 0] = 65535  # a hot pixel does not blacken the rest
    found = decode_image(encoded(values.astype(np.uint16)))
    low, high = np.percentile(values.astype(np.uint16), (0.1, 99.9))
    expected = np.clip((values.astype(np.uint16) - low) / (high - low) * 255, 0, 255)
    assert np.abs(found[..., 0] - expected).max() <= 0.5 + 1e-9
    assert found.std() > 30
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wide_tiffs_are_stretched(encoded, dtype):
    ramp = (np.arange(600).reshape(20, 30) * 1000 - 7).astype(dtype)
    found = decode_image(encoded(ramp, "TIFF"))[..., 0]
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    assert (np.diff(found.ravel().astype(int)) >= 0).all()


def test_stretch_survives_what_floats_can_hold():
    odd = np.array([[np.nan, 0.0], [1.0, np.inf]], np.float32)
    np.testing.assert_array_equal(stretch(odd), [[0, 0], [255, 0]])
    assert not stretch(np.full((3, 3), 7, np.uint16)).any()
    assert not stretch(np.full((3, 3), np.nan, np.float32)).any()
    sparse = np.zeros((100, 100), np.uint16)
    sparse[5, 5] = 900  # rarer than the percentile
    assert stretch(sparse)[5, 5] == 255


def test_cmyk_jpegs_keep_their_colours(smooth, encoded):
    plain = encoded(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(plain)).mode == "CMYK"
    found = decode_image(plain)
    assert np.abs(found.astype(int) - smooth).mean() < 6
    assert np.abs(255 - found.astype(int) - smooth).mean() > 30  # not inverted


def test_an_embedded_profile_changes_nothing(smooth, encoded):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(decode_image(encoded(smooth, icc_profile=profile)), smooth)


def test_first_frame_of_many(smooth, tmp_path):
    path = tmp_path / "stack.tif"
    Image.fromarray(smooth).save(path, save_all=True, append_images=[Image.fromarray(255 - smooth)])
    np.testing.assert_array_equal(decode_image(path), smooth)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncation_is_found_by_the_cheap_check_too(smooth, encoded, format):
    data = encoded(np.kron(smooth, np.ones((4, 4, 1), np.uint8)), format)
    check_image(data)
    for read in (decode_image, check_image):
        with pytest.raises(DataError, match=r"truncated|corrupt"):
            read(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"<html>not found</html>", "not an image"), (b"\xff\xd8\xff\xe0", "not an image|truncated")],
)
def test_files_that_are_no_image_say_so_and_name_the_file(tmp_path, content, reason):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        decode_image(path)
    assert "photo.jpg" in str(caught.value)


def test_a_decompression_bomb_is_refused(encoded):
    small = bytearray(encoded(Image.new("1", (8, 8))))
    small[16:24] = struct.pack(">II", 40_000, 40_000)  # the size in the header chunk
    small[29:33] = struct.pack(">I", zlib.crc32(small[12:29]))
    with pytest.raises(DataError, match="too many pixels"):
        decode_image(bytes(small))


def test_what_is_no_regular_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        decode_image(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="not a file"):
        decode_image(tmp_path / "folder.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match="broken symbolic link"):
        decode_image(tmp_path / "link.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="not a file"):
        decode_image(tmp_path / "pipe.png")


def test_links_and_unicode_names_are_fine(tmp_path, smooth, save):
    path = save(tmp_path / "überschwemmung 水.png", smooth)
    (tmp_path / "link.png").symlink_to(path)
    np.testing.assert_array_equal(decode_image(tmp_path / "link.png"), smooth)
    np.testing.assert_array_equal(decode_image(str(path)), smooth)


def test_the_key_covers_bytes_spec_and_view():
    spec = DecodeSpec()
    key = image_key(b"some bytes", spec)
    assert len(bytes.fromhex(key)) == 32
    assert key == image_key(b"some bytes", DecodeSpec())
    assert len({key, image_key(b"some byteS", spec), image_key(b"some bytes", spec, view=1)}) == 3
    newer = DecodeSpec(version=2)
    assert image_key(b"some bytes", newer) != key
    decode = '{"alpha": "drop", "exif": "transpose", "frame": "first", "intensity": "percentile", "version": 1}'
    spelled = f'{{"decode": {decode}, "tile": null, "view": 0}}'.encode()
    for data in (b"", b"some bytes", bytes(range(256)) * 5000):
        expected = hashlib.sha256(len(data).to_bytes(8, "little") + data + spelled).hexdigest()
        assert image_key(data, spec) == expected


def test_the_spec_travels_and_refuses_what_it_does_not_know():
    assert DecodeSpec.from_dict(DecodeSpec().to_dict()) == DecodeSpec()
    with pytest.raises(ConfigError, match="alpha"):
        DecodeSpec.from_dict({"alpha": "over-white"})
    with pytest.raises(ConfigError, match="bands"):
        DecodeSpec.from_dict({"bands": [1, 2, 3]})


def test_an_unreadable_file_names_the_reason(tmp_path, smooth, save, monkeypatch):
    path = save(tmp_path / "locked.png", smooth)

    def refuse(_self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        decode_image(path)


@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_the_cheap_check_refuses_exactly_what_decoding_refuses(encoded, smooth, format, options):
    """Cut and damaged anywhere: an image that passes the check does not fail in the middle of a long job."""
    rng = np.random.default_rng(0)
    data = encoded(np.kron(smooth, np.ones((2, 2, 1), np.uint8)), format, **options)
    damaged = [data[:cut] for cut in (*range(1, len(data), max(1, len(data) // 25)), len(data) - 2)]
    for _ in range(25):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))

    def refused(read, content):
        try:
            read(content)
        except DataError:
            return True
        return False

    outcomes = [(refused(check_image, content), refused(decode_image, content)) for content in damaged]
    assert all(cheap == full for cheap, full in outcomes)
    assert sum(cheap for cheap, _ in outcomes) >= 20
