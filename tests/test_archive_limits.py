"""Archives that reach outside, point elsewhere, or grow without end, are not read."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_texts import LONG, name_one_text_often, place_of_text
from larq_nobn._archive_limits import check_hdf5, check_zip
from larq_nobn._hdf5_texts import length_of_texts


def archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> zipfile.ZipFile:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return zipfile.ZipFile(stream)


def linked(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def test_an_archive_of_files_is_read():
    check_zip(archive(("config.json", b"{}"), ("assets/words/list.txt", b"a")))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../config.json", "a/../../b", "..\\b", "C:\\b", "\\b"]
)
def test_a_member_outside(name: str):
    with pytest.raises(ValueError, match="lies outside of it"):
        check_zip(archive((name, b"x")))


def test_a_link():
    with pytest.raises(ValueError, match="'config.json' is a link or a device"):
        check_zip(archive((linked("config.json"), b"/etc/passwd")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name():
    with pytest.raises(ValueError, match="two of its members have one name"):
        check_zip(archive(("config.json", b"{}"), ("config.json", b"[]")))


def test_an_encrypted_member():
    found = archive(("config.json", b"{}"))
    found.infolist()[0].flag_bits |= 1
    with pytest.raises(ValueError, match="is encrypted"):
        check_zip(found)


def test_a_size_is_taken_from_the_header():
    """A megabyte may become 64 of them, and what is small is not a danger."""
    check_zip(archive(("zeros", bytes(1 << 24))))
    found = archive(("zeros", bytes(1 << 20)))
    found.infolist()[0].file_size = 1 << 40
    with pytest.raises(ValueError, match="to 1,099,511,627,776 bytes"):
        check_zip(found)


def test_members_that_share_their_bytes():
    """Names of a megabyte each, as a table of contents may give them."""
    found = archive(*((f"zeros{i}", bytes(1 << 20)) for i in range(10)))
    check_zip(found)
    for member in found.infolist():
        member.compress_size, member.file_size = 1 << 20, 1 << 26
    with pytest.raises(ValueError, match="its members overlap, or are larger than it"):
        check_zip(found)


def test_json_weighs_what_it_becomes():
    """Sixteen megabytes of brackets are half a gigabyte of empty lists."""
    found = archive(("config.json", b"[" + b"[]," * (1 << 22) + b"0]"))
    check_zip(found)
    with pytest.raises(ValueError, match="it would grow"):
        check_zip(found, json=("config.json",))
    check_zip(archive(("config.json", bytes(1 << 20))), json=("config.json",))


def check(path: Path, size: int | None = None) -> int:
    with path.open("rb") as stream:
        return check_hdf5(stream, path.stat().st_size if size is None else size)


def test_hdf5_of_weights(tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_dataset("layer/kernel", data=np.ones((100, 100), np.float32))
        made["layer"].create_dataset("zeros", (1 << 20,), "f4", compression="gzip")
        made["again"] = made["layer"]  # another name for the same
        made["layer/itself"] = made["layer"]
        made.create_dataset("empty", data=h5py.Empty("f4"))
    # The last for its name.
    assert check(tmp_path / "w.h5") == 4 * 100 * 100 + 4 * (1 << 20) + 4096


@pytest.mark.parametrize(
    "link", [h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/layer")]
)
def test_links_of_hdf5(link: object, tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_group("layer")["kernel"] = link
    with pytest.raises(ValueError, match="'/layer/kernel' is a link"):
        check(tmp_path / "w.h5")


def test_data_of_hdf5_in_another_file(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(40))
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_dataset(
            "kernel", (10,), "f4", external=[(tmp_path / "secret", 0, 40)]
        )
    with pytest.raises(ValueError, match="'/kernel' lies in another file"):
        check(tmp_path / "w.h5")


def test_virtual_data_of_hdf5(tmp_path: Path):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", (10,))
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_virtual_dataset("kernel", layout)
    with pytest.raises(ValueError, match="'/kernel' lies in another file"):
        check(tmp_path / "w.h5")


def test_data_of_hdf5_that_is_not_there(tmp_path: Path):
    """Declared, and nowhere written: a file of 2 kB, a terabyte when it is read."""
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_dataset("kernel", (1 << 38,), "f4", chunks=(1 << 16,))
    assert (tmp_path / "w.h5").stat().st_size < 1 << 16
    with pytest.raises(ValueError, match="to 1,099,511,627,776 bytes"):
        check(tmp_path / "w.h5")


def test_texts_and_references_in_hdf5(tmp_path: Path):
    """A million of them may be one, which is read a million times."""
    for dtype in (h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype(np.float32)):
        with h5py.File(tmp_path / "w.h5", "w") as made:
            made.create_dataset("kernel", (10,), dtype)
        with pytest.raises(ValueError, match="'/kernel' is not an array of numbers"):
            check(tmp_path / "w.h5")


def test_groups_in_groups_of_hdf5(tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        inner = made
        for _ in range(3000):
            inner = inner.create_group("g")
        inner["kernel"] = np.zeros(3000, np.float32)
    assert check(tmp_path / "w.h5") == 12000


TEXTS = 2000


@pytest.mark.parametrize("group", ["/", "model_weights", "model_weights/layer"])
@pytest.mark.parametrize("name", ["layer_names", "weight_names0", "any"])
def test_one_text_many_times_in_an_attribute(group: str, name: str, tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.require_group(group)
    name_one_text_often(tmp_path / "w.h5", group, name, TEXTS)
    with h5py.File(tmp_path / "w.h5") as made:  # 131 MB of 0.2
        assert all(text == LONG for text in made[group].attrs[name])
    with pytest.raises(ValueError, match=f"to {TEXTS * len(LONG):,} bytes"):
        check(tmp_path / "w.h5")


def test_one_text_in_many_attributes(tmp_path: Path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as made:
        made.attrs["text"] = LONG
        for i in range(TEXTS):
            made.attrs[f"layer_names{i}"] = "t"
    content = bytearray(path.read_bytes())
    at = place_of_text(content, LONG)
    for number in range(TEXTS):
        name = content.index(b"layer_names%d\0" % number)
        other = place_of_text(content, "t", name)
        content[other : other + 16] = content[at : at + 16]
    path.write_bytes(content)
    with h5py.File(path) as made:
        assert made.attrs[f"layer_names{TEXTS - 1}"] == LONG
    with pytest.raises(ValueError, match=f"to {(TEXTS + 1) * len(LONG):,} bytes"):
        check(path)


def test_lists_of_texts_as_keras_writes_them(tmp_path: Path):
    """In all forms of a header; what was taken away leaves a gap in it."""
    for options in ({}, {"libver": "latest"}, {"track_order": True}):
        for userblock in ({}, {"userblock_size": 512}):
            with h5py.File(tmp_path / "w.h5", "w", **options, **userblock) as made:
                made.attrs["model_config"] = "{}" * 5000
                for name in ("weights", "weights/dense"):
                    attributes = made.create_group(name).attrs
                    for number in range(5):
                        attributes[f"layer_names{number}"] = ["kernel", "größe"] * 50
                    del attributes["layer_names3"]
                    attributes["none"] = h5py.Empty("f4")
                    attributes["fixed"] = np.array([b"a", b"bc"])
                    attributes["backend"] = "tensorflow"
                made["weights/dense/kernel"] = np.ones(5000, np.float32)
            assert check(tmp_path / "w.h5") == 20000
            with (
                (tmp_path / "w.h5").open("rb") as stream,
                h5py.File(tmp_path / "w.h5") as made,
            ):
                for found in (made, made["weights"], made["weights/dense"]):
                    read = [np.ravel(found.attrs[name]) for name in found.attrs]
                    texts = [text for each in read for text in each]
                    wanted = sum(
                        len(text.encode()) for text in texts if isinstance(text, str)
                    )
                    assert length_of_texts(stream, made, found) == wanted > 1000


def test_one_name_of_many_members(tmp_path: Path):
    """The names of a group lie somewhere else, too."""
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as made:
        group = made.create_group("group")
        for number in range(TEXTS):
            group[f"b{number:05}"] = group
        group["a" + LONG] = group  # the last in the heap of names
    content = bytearray(path.read_bytes())
    nodes = [found.start() for found in re.finditer(b"SNOD", content)]
    assert struct.unpack_from("<H", content, nodes[0] + 6) == (1,)  # that of the root
    entries = [
        node + 8 + 40 * number
        for node in nodes[1:]
        for number in range(*struct.unpack_from("<H", content, node + 6))
    ]
    (longest,) = max(struct.unpack_from("<Q", content, entry) for entry in entries)
    for entry in entries:
        struct.pack_into("<Q", content, entry, longest)
    path.write_bytes(content)
    with h5py.File(path) as made:
        assert list(made["group"]) == ["a" + LONG] * (TEXTS + 1)
    with pytest.raises(ValueError, match="it would grow"):
        check(path)


@pytest.mark.parametrize(
    "value",
    [
        np.array([np.ones(3), np.ones(2)], dtype=object),
        np.array([("a", 1)], [("name", h5py.string_dtype()), ("number", "i4")]),
        "reference",
        "region",
    ],
)
def test_attributes_that_point_to_others(value: object, tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made["kernel"] = np.ones(4)
        if isinstance(value, str):
            dtype = h5py.ref_dtype if value == "reference" else h5py.regionref_dtype
            place = made.ref if value == "reference" else made["kernel"].regionref[:2]
            made.attrs.create("layer_names", [place], dtype=dtype)
        elif value.dtype == object:
            made.attrs.create("layer_names", value, dtype=h5py.vlen_dtype(float))
        else:
            made.attrs["layer_names"] = value
    with pytest.raises(ValueError, match="'layer_names' is neither text nor number"):
        check(tmp_path / "w.h5")


def test_attributes_that_lie_elsewhere(tmp_path: Path):
    """More than eight in new files, which Keras does not write, are in a heap."""
    with h5py.File(tmp_path / "w.h5", "w", libver="latest") as made:
        for number in range(9):
            made.attrs[f"number{number}"] = number
    check(tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a", libver="latest") as made:
        made.attrs["layer_names"] = ["a", "b"]
    with pytest.raises(ValueError, match="'layer_names' is not kept as Keras"):
        check(tmp_path / "w.h5")
