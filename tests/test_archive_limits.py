"""Archives that reach outside, point elsewhere, or grow without end, are not read."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from larq_nobn._archive_limits import check_hdf5, check_zip


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
    """A megabyte may become 64 of them, and what is small is no danger."""
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


def test_hdf5_of_weights(tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_dataset("layer/kernel", data=np.ones((100, 100), np.float32))
        made["layer"].create_dataset("zeros", (1 << 20,), "f4", compression="gzip")
        made["again"] = made["layer"]  # another name for the same
        made["layer/itself"] = made["layer"]
        made.create_dataset("empty", data=h5py.Empty("f4"))
        in_memory = check_hdf5(made, (tmp_path / "w.h5").stat().st_size)
    assert in_memory == 4 * 100 * 100 + 4 * (1 << 20) + 4096  # the last for its name


@pytest.mark.parametrize(
    "link", [h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/layer")]
)
def test_links_of_hdf5(link: object, tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_group("layer")["kernel"] = link
        with pytest.raises(ValueError, match="'/layer/kernel' is a link"):
            check_hdf5(made, 1000)


def test_data_of_hdf5_in_another_file(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(40))
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_dataset(
            "kernel", (10,), "f4", external=[(tmp_path / "secret", 0, 40)]
        )
        with pytest.raises(ValueError, match="'/kernel' lies in another file"):
            check_hdf5(made, 1000)


def test_virtual_data_of_hdf5(tmp_path: Path):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", (10,))
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_virtual_dataset("kernel", layout)
        with pytest.raises(ValueError, match="'/kernel' lies in another file"):
            check_hdf5(made, 1000)


def test_data_of_hdf5_that_is_not_there(tmp_path: Path):
    """Declared, and nowhere written: a file of 2 kB, a terabyte when it is read."""
    with h5py.File(tmp_path / "w.h5", "w") as made:
        made.create_dataset("kernel", (1 << 38,), "f4", chunks=(1 << 16,))
    size = (tmp_path / "w.h5").stat().st_size
    assert size < 1 << 16
    with h5py.File(tmp_path / "w.h5") as found:  # noqa: SIM117
        with pytest.raises(ValueError, match="to 1,099,511,627,776 bytes"):
            check_hdf5(found, size)


def test_texts_and_references_in_hdf5(tmp_path: Path):
    """A million of them may be one, which is read a million times."""
    for dtype in (h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype(np.float32)):
        with h5py.File(tmp_path / "w.h5", "w") as made:
            made.create_dataset("kernel", (10,), dtype)
            with pytest.raises(ValueError, match="'/kernel' is no array of numbers"):
                check_hdf5(made, 1000)


def test_groups_in_groups_of_hdf5(tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as made:
        inner = made
        for _ in range(3000):
            inner = inner.create_group("g")
        inner["kernel"] = np.zeros(3000, np.float32)
        assert check_hdf5(made, 1000) == 12000
