"""Files from elsewhere: downloads and archives, and their pinned SHA-256."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

Progress = Callable[[str], None]

# Seconds without a single byte before a server counts as unreachable.
TIMEOUT = 20
_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_archive(path: Path, checksums: Mapping[str, str]) -> None:
    """Raises ValueError unless the file is one of the known archives.

    Arguments:
        path: The file.
        checksums: SHA-256 of each archive that is accepted, by its usual name.
    """
    found = sha256(path)
    if found not in checksums.values():
        known = " nor ".join(f"{name} ({sha})" for name, sha in checksums.items())
        raise ValueError(
            f"{path} has the SHA-256 {found}, which is not that of {known}. The file "
            "is incomplete or another one; download it again."
        )


def download(url: str, folder: Path, progress: Progress) -> Path:
    """Downloads `url` into `folder`, telling `progress` about every tenth of it."""
    target = folder / url.rpartition("/")[2]
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as answer,
        target.open("wb") as file,
    ):
        size, done, told = int(answer.headers.get("Content-Length") or 0), 0, 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            if size and done * 10 // size > told:
                told = done * 10 // size
                progress(f"{target.name}: {told * 10} % of {size / 1e6:.0f} MB")
    return target


def npm_pack(package: str, folder: Path, progress: Progress) -> Path:
    """Fetches a package with the npm client, which knows the user's registry.

    Arguments:
        package: Name and version, `"name@1.2.3"`.
        folder: Where the package's `.tgz` goes.
        progress: Told what is being done.

    Raises:
        OSError: If there is no npm client, or it fails; the message is its own.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    progress(f"npm pack {package}")
    done = subprocess.run(
        [npm, "pack", "--silent", "--fetch-retries=1", package],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        complaint = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OSError(f"npm pack ended with code {done.returncode} ({complaint})")
    return folder / f"{package.replace('@', '-')}.tgz"


def read_files(source: Path, names: Collection[str]) -> dict[str, bytes]:
    """Reads the wanted files of an archive or a folder into memory.

    Arguments:
        source: A tar archive, or a folder; the files may lie one folder deeper.
        names: File names (without folder) to look for; others are passed over.

    Returns:
        Content by file name, of those that are there.

    Raises:
        ValueError: If the archive is damaged.
    """
    if source.is_dir():
        candidates = [*source.glob("*"), *source.glob("*/*")]
        return {
            path.name: path.read_bytes() for path in candidates if path.name in names
        }
    files = {}
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in names or not member.isfile():  # a link, for instance
                    continue
                if file := archive.extractfile(member):
                    files[name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as problem:
        raise ValueError(
            f"{source} is damaged ({problem}). Download it again."
        ) from problem
    return files
