"""Package files are read without unpacking, and what is wrong with one is said."""

import io
import lzma
import sys
import tarfile
import zipfile

import pytest

from delira_nca.data_loading.sources.archive import is_archive, read_members
from delira_nca.errors import MissingDependencyError, MissingFileError

CONTENT = {"some/data/a.bin": b"first" * 50, "some/data/b.bin": bytes(range(256))}
OTHERS = {"some/__init__.py": b"", "other/a.bin": b"another of the same name", "some-1.0.dist-info/RECORD": b"x"}


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(target, files, mode, prefix=""):
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target


def ar_of(members):
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb_of(path, files, compression="xz"):
    data = tar_of(io.BytesIO(), files, f"w:{compression}", prefix="./").getvalue()
    ending = f".{compression}" if compression else ""
    path.write_bytes(ar_of({"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{ending}": data}))
    return path


def make(kind, folder, files):
    if kind == "whl":
        return zip_of(folder / "some-1.0-py3-none-any.whl", files)
    if kind.startswith("deb"):
        return deb_of(folder / "some_1.0_all.deb", files, kind.partition("-")[2])
    ending, _, prefix = kind.partition("-")
    path = folder / f"some-1.0.tar.{ending}".removesuffix(".")
    path.write_bytes(tar_of(io.BytesIO(), files, f"w:{ending}", prefix).getvalue())
    return path


KINDS = ["whl", "deb-xz", "deb-gz", "deb-bz2", "deb-", "gz-package/", "gz-some-1.0/", "xz-./", "bz2-", "-"]


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_out_of_every_kind_of_package_file(kind, tmp_path):
    path = make(kind, tmp_path, OTHERS | CONTENT)
    before = sorted(tmp_path.rglob("*"))
    assert is_archive(path)
    assert read_members(path, [*CONTENT, "some/data/c.bin"]) == CONTENT
    assert sorted(tmp_path.rglob("*")) == before
    assert read_members(make(kind, tmp_path, {}), list(CONTENT)) == {}


@pytest.mark.parametrize("kind", ["whl", "gz-package/"])
def test_member_that_agrees_in_most_folders_is_taken_whatever_the_order(kind, tmp_path):
    for files in (OTHERS | CONTENT, CONTENT | OTHERS):
        assert read_members(make(kind, tmp_path, files), ["some/data/a.bin"])["some/data/a.bin"] == b"first" * 50
    assert read_members(make(kind, tmp_path, OTHERS), ["some/data/a.bin"]) == {"some/data/a.bin": OTHERS["other/a.bin"]}


@pytest.mark.parametrize("kind", ["whl", "deb-xz", "deb-gz", "gz-package/", "xz-./"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_package_file_that_ends_too_early_is_damaged(kind, share, tmp_path):
    path = make(kind, tmp_path, {"some/data/a.bin": bytes(range(251)) * 400} | OTHERS)
    path.write_bytes(path.read_bytes()[: max(12, int(share * path.stat().st_size))])
    with pytest.raises(MissingFileError, match=r"package file .*some.* is damaged \(.+\); get it anew"):
        read_members(path, ["some/data/a.bin", "some/data/b.bin"])


def test_wrong_checksums_tarballs_that_are_none_and_debian_packages_without_data_are_damaged(tmp_path):
    wheel, tarball, debian = (tmp_path / name for name in ("some.whl", "some.tar.xz", "some.deb"))
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("some/data/a.bin", b"abcdefgh")
    wheel.write_bytes(wheel.read_bytes().replace(b"abcdefgh", b"abcdefgX"))
    tarball.write_bytes(lzma.compress(b"no tarball" * 1000))
    debian.write_bytes(ar_of({"debian-binary": b"2.0\n"}))
    for path, message in ((wheel, "damaged.*CRC"), (tarball, "damaged"), (debian, r"no data\.tar")):
        with pytest.raises(MissingFileError, match=message):
            read_members(path, ["some/data/a.bin"])


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from Python 3.14 on, zstandard is read")
def test_debian_package_compressed_by_zstandard_says_how_to_unpack_it(tmp_path):
    path = tmp_path / "some.deb"
    path.write_bytes(ar_of({"debian-binary": b"2.0\n", "data.tar.zst": b"\x28\xb5\x2f\xfd"}))
    with pytest.raises(MissingDependencyError, match=r"zstandard.*dpkg-deb -x some\.deb FOLDER"):
        read_members(path, ["a"])


def test_links_are_not_followed_and_members_that_point_outside_touch_nothing_there(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    path, tarball = zip_of(folder / "some.whl", {"../../some/data/a.bin": b"content"}), folder / "some.tar"
    with tarfile.open(tarball, "w") as archive:
        link = tarfile.TarInfo("some/data/a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert read_members(tarball, ["some/data/a.bin"]) == {}
    assert read_members(path, ["some/data/a.bin"]) == {"some/data/a.bin": b"content"}
    assert sorted(tmp_path.rglob("*")) == [folder, tarball, path]


def test_other_files_are_no_archives_and_one_that_cannot_be_read_is_named(tmp_path):
    for content in (b"", b"P", b"\x89PNG\r\n\x1a\n", b"plain text" * 100):
        (tmp_path / "file").write_bytes(content)
        assert not is_archive(tmp_path / "file"), content
    with pytest.raises(MissingFileError, match=r"cannot read '.*none\.whl'"):
        is_archive(tmp_path / "none.whl")
