"""TensorFlow's checkpoint files: read as TensorFlow wrote them, and refused when damaged."""

import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from convbert.models.errors import UserError
from convbert.models.interop.tf_bundle import TensorBundle

# Written by tensorflow 2.21's tf.compat.v1.train.Saver; every variable counts up in eighths.
WRITTEN_BY_TENSORFLOW = Path(__file__).parent / "data" / "tensorflow-2.21.ckpt"
KEY_SCOPE = "electra/encoder/layer_0/attention/self/conv_attn_key"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A copy of TensorFlow's own checkpoint that may be damaged."""
    for part in WRITTEN_BY_TENSORFLOW.parent.glob(WRITTEN_BY_TENSORFLOW.name + ".*"):
        shutil.copy(part, tmp_path)
    return tmp_path / WRITTEN_BY_TENSORFLOW.name


def alter(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)


def data_file(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".data-00000-of-00001")


def index_file(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        (f"{KEY_SCOPE}/depthwise_kernel", (9, 4, 1), torch.float32),
        (f"{KEY_SCOPE}/bias", (6,), torch.float32),
        ("electra/embeddings/word_embeddings", (5, 4), torch.float32),
        ("double", (2, 3), torch.float64),
        ("half", (2, 3), torch.float16),
        ("bfloat", (2, 3), torch.bfloat16),
        ("empty", (0, 3), torch.float32),
    ],
)
def test_tensors_written_by_tensorflow_are_read_exactly(name, shape, dtype):
    tensor = TensorBundle(WRITTEN_BY_TENSORFLOW).read(name)
    expected = (torch.arange(tensor.numel()) / 8).reshape(shape).to(dtype)
    assert tensor.dtype == dtype
    assert torch.equal(tensor, expected)


def test_integers_and_scalars_written_by_tensorflow_are_read_exactly():
    bundle = TensorBundle(WRITTEN_BY_TENSORFLOW)
    assert bundle.read("global_step").shape == ()
    assert bundle.read("global_step") == 1_000_000
    assert bundle.read("int").tolist() == [0, 0, 0]


def test_names_are_listed_without_the_slices_of_partitioned_tensors():
    bundle = TensorBundle(WRITTEN_BY_TENSORFLOW)
    assert "sliced" in bundle
    assert sorted(bundle)[:3] == ["bfloat", "double", "electra/embeddings/word_embeddings"]
    assert all(name.isprintable() for name in bundle)


@pytest.mark.parametrize(("name", "reason"), [("text", "type 7"), ("sliced", "partitioned")])
def test_tensor_that_is_no_plain_weight_is_named(name, reason):
    with pytest.raises(UserError, match=rf"tensor '{name}' .*{reason}"):
        TensorBundle(WRITTEN_BY_TENSORFLOW).read(name)


def test_bundle_of_many_blocks_round_trips(tmp_path, write_bundle):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"scope/layer_{layer}/{part}": torch.randn(shape, generator=generator)
        for layer in range(60)
        for part, shape in {"kernel": (3, 5), "bias": (5,), "scale": ()}.items()
    }
    bundle = TensorBundle(write_bundle(tmp_path / "model.ckpt-7", tensors))
    assert set(bundle) == set(tensors)
    assert all(torch.equal(bundle.read(name), tensor) for name, tensor in tensors.items())


def test_altered_data_names_the_tensor_and_the_file(checkpoint):
    entry = TensorBundle(checkpoint).entries["half"]
    alter(data_file(checkpoint), entry.offset + 3)
    bundle = TensorBundle(checkpoint)
    named = re.escape(str(data_file(checkpoint))) + ".*'half' fails its checksum"
    with pytest.raises(UserError, match=named):
        bundle.read("half")
    bundle.read("double")


def test_truncated_data_names_the_tensor_and_the_file(checkpoint):
    entry = TensorBundle(checkpoint).entries["half"]
    content = data_file(checkpoint).read_bytes()
    data_file(checkpoint).write_bytes(content[: entry.offset + 2])
    with pytest.raises(UserError, match="'half' is cut short"):
        TensorBundle(checkpoint).read("half")


def test_missing_data_file_is_named(checkpoint):
    data_file(checkpoint).unlink()
    with pytest.raises(UserError, match=r"ckpt\.data-00000-of-00001: the data file .* missing"):
        TensorBundle(checkpoint).read("half")


def test_every_altered_byte_of_the_index_is_noticed(checkpoint):
    """Unused bytes (padding of the footer, the empty block it points past) change nothing."""
    whole = index_file(checkpoint).read_bytes()
    expected = TensorBundle(checkpoint).entries
    noticed = 0
    for at in range(0, len(whole), 3):
        index_file(checkpoint).write_bytes(whole)
        alter(index_file(checkpoint), at)
        with suppress(UserError):
            assert TensorBundle(checkpoint).entries == expected
            continue
        noticed += 1
    assert noticed > 0.85 * len(whole) / 3


@pytest.mark.parametrize("size", [0, 20, 47, 48, 300])
def test_truncated_index_is_named(checkpoint, size):
    index_file(checkpoint).write_bytes(index_file(checkpoint).read_bytes()[:size])
    with pytest.raises(UserError, match=r"\.index: damaged checkpoint index .*cut short"):
        TensorBundle(checkpoint)


def test_missing_checkpoint_and_missing_tensor_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.index: no such checkpoint index"):
        TensorBundle(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no tensor named 'absent'"):
        TensorBundle(WRITTEN_BY_TENSORFLOW).read("absent")


def test_compressed_index_is_refused(tmp_path, write_bundle):
    prefix = write_bundle(tmp_path / "model.ckpt-7", {"scale": torch.ones(3)}, compressed=True)
    with pytest.raises(UserError, match=r"ckpt-7\.index: the block at byte \d+ is compressed"):
        TensorBundle(prefix)


def test_without_the_package_for_checksums_nothing_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "crc32c", None)
    with pytest.raises(UserError, match=r"needs the package 'crc32c'; .*pip install '\.\[tf\]'"):
        TensorBundle(WRITTEN_BY_TENSORFLOW)
