"""Sources are opened by name, verified, and give the arrays that their entries promise."""

import dataclasses
import gzip
import hashlib
import importlib
import io
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

from delira_nca.data_loading import sources
from delira_nca.data_loading.sources.package_files import find_folder, find_module
from delira_nca.errors import (
    ConfigError,
    MissingDependencyError,
    MissingFileError,
    ShapeError,
    UnknownKeywordError,
    UnknownNameError,
)

registry = importlib.import_module("delira_nca.data_loading.sources.registry")

# -- what every entry promises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sources.available())
def test_entry_says_all_that_a_user_needs(name):
    source = sources.describe(name)
    assert source.name == name
    for text in (source.summary, source.licence, source.citation, source.note, source.origin):
        assert text.isascii()
        assert text
        assert "\n" not in text
    assert source.arrays[0].key == "data"
    assert bool(source.files) == (source.package is not None)
    for file in source.files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert not PurePosixPath(file.path).is_absolute()
        assert ".." not in file.path
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.name = "another"


@pytest.mark.parametrize("name", [n for n in sources.available() if "num_samples" in sources.describe(n).options])
def test_computed_source_is_the_generator_of_that_name(name):
    arrays = sources.open(name, num_samples=2, shape=(16, 8), seed=3)
    expected = getattr(sources, name)(num_samples=2, shape=(16, 8), seed=3)
    assert {key: array.tobytes() for key, array in arrays.items()} == {k: v.tobytes() for k, v in expected.items()}
    assert sources.is_here(name)
    with pytest.raises(ConfigError, match=f"{name}' is computed and needs no file; leave out root='x'"):
        sources.open(name, root="x")


def test_drawing_is_the_target_of_that_name():
    assert np.array_equal(sources.open("drawing", picture="fish", size=24)["data"], sources.drawing("fish", 24))
    assert sources.is_here("drawing")
    with pytest.raises(UnknownNameError, match=r"unknown drawing 'fisch'.*Did you mean 'fish'"):
        sources.open("drawing", picture="fisch")


def test_wrong_names_suggest_the_nearest():
    for function in (sources.open, sources.describe, sources.is_here, sources.check):
        with pytest.raises(UnknownNameError, match=r"unknown source 'nuclei2d'\. .*Did you mean 'nuclei_2d'\?"):
            function("nuclei2d")
    with pytest.raises(UnknownKeywordError, match=r"open\('dahlia'\) takes no argument 'sise'\..*Did you mean 'size'"):
        sources.open("dahlia", sise=8)
    with pytest.raises(UnknownKeywordError, match=r"open\('digits'\) takes no argument 'size'\. Known: none"):
        sources.open("digits", size=8)
    with pytest.raises(ConfigError, match="size must be a whole number of at least 1, not 0"):
        sources.open("dahlia", size=0)


# -- small packages made here ----------------------------------------------------------------------------------------


def png_of(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def tiff_of(array):
    stream = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(stream, array, photometric="minisblack")
    return stream.getvalue()


def nifti_of(array):
    return gzip.compress(pytest.importorskip("nibabel").Nifti1Image(array, np.eye(4)).to_bytes())


def idx_of(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def numbers(shape, dtype=np.uint8, high=100):
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


SMALL = {
    "digits": (
        lambda: [gzip.compress("\n".join(",".join(map(str, row)) for row in numbers((5, 65), high=10)).encode())],
        lambda: {
            "data": numbers((5, 65), high=10)[:, :64].reshape(5, 1, 8, 8),
            "label": numbers((5, 65), high=10)[:, 64],
        },
    ),
    "gravel": (lambda: [png_of(numbers((6, 7)))], lambda: {"data": numbers((1, 6, 7))}),
    "nuclei_2d": (
        lambda: [tiff_of(numbers((9, 8), np.uint16, 60000)), tiff_of(numbers((9, 8), np.uint16, 4))],
        lambda: {"data": numbers((1, 9, 8), np.int32, 60000), "label": numbers((1, 9, 8), high=4)},
    ),
    "nuclei_3d": (
        lambda: [tiff_of(numbers((3, 9, 8), np.uint16, 60000)), tiff_of(numbers((3, 9, 8), np.uint16, 4))],
        lambda: {"data": numbers((1, 3, 9, 8), np.int32, 60000), "label": numbers((1, 3, 9, 8), high=4)},
    ),
    "mnist": (
        lambda: [idx_of(numbers((4, 28, 28))), idx_of(numbers((4,), high=10))],
        lambda: {"data": numbers((4, 1, 28, 28)), "label": numbers((4,), high=10)},
    ),
    "mni152": (
        lambda: [nifti_of(numbers((5, 4, 3), high=high)) for high in (200, 50, 20)],
        lambda: {
            "data": numbers((1, 5, 4, 3), high=200),
            "label": np.stack([numbers((5, 4, 3), high=50), numbers((5, 4, 3), high=20)]),
        },
    ),
    "ch2": (
        lambda: [nifti_of(numbers((5, 4, 3), high=high)) for high in (200, 3, 117)],
        lambda: {
            "data": numbers((1, 5, 4, 3), high=200),
            "label": numbers((1, 5, 4, 3), high=117),
            "brain": numbers((1, 5, 4, 3), high=3) > 0,
        },
    ),
}


@pytest.fixture(params=sorted(SMALL))
def small(request, monkeypatch):
    """An entry whose files are small ones made here: the entry, the files by path, the arrays in them."""
    contents, arrays = (make() for make in SMALL[request.param])
    return install(monkeypatch, request.param, contents, arrays), arrays


def install(monkeypatch, name, contents, arrays):
    source = sources.describe(name)
    files = dict(zip((file.path for file in source.files), contents, strict=True))
    entry = dataclasses.replace(
        source,
        files=tuple(
            dataclasses.replace(file, sha256=hashlib.sha256(files[file.path]).hexdigest()) for file in source.files
        ),
        arrays=tuple(dataclasses.replace(spec, shape=arrays[spec.key].shape) for spec in source.arrays),
    )
    monkeypatch.setattr(registry, "SOURCES", MappingProxyType({name: entry}))
    return entry, files


def package_name(entry):
    name = entry.package.archive.replace("*", "1.0")
    assert name.endswith((".whl", ".tgz", ".deb"))
    return name


def pack(path, files):
    """Package file of the kind that its name says."""

    def tarball(target, mode, prefix):
        with tarfile.open(fileobj=target, mode=mode) as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(prefix + name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return target.getvalue()

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in files.items():
                wheel.writestr(name, content)
    elif path.suffix == ".deb":
        data = tarball(io.BytesIO(), "w:xz", "./")
        head = f"{'data.tar.xz/':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
        path.write_bytes(b"!<arch>\n" + head.encode() + data)
    else:
        path.write_bytes(tarball(io.BytesIO(), "w:gz", "package/"))
    return path


def unpack(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def places(entry, files, folder):
    """Every way to name the files."""
    yield pack(folder / "file" / package_name(entry), files)
    yield str(folder / "file")  # the folder that holds the package file
    yield unpack(folder / "unpacked", files)
    inner = next(iter(files)).split("/")[0]
    yield folder / "unpacked" / inner  # the folder of the package itself
    yield unpack(folder / "flat", {PurePosixPath(name).name: content for name, content in files.items()})
    if len(files) == 1:
        yield folder / "flat" / PurePosixPath(next(iter(files))).name


def test_files_are_found_in_every_place(small, tmp_path):
    (entry, files), expected = small
    for place in places(entry, files, tmp_path):
        assert sources.is_here(entry.name, place)
        found = sources.check(entry.name, place)
        assert [file.content for file in found.files] == list(files.values())
        assert sorted(found.arrays) == sorted(expected)
        for spec in entry.arrays:
            assert found.arrays[spec.key].dtype == spec.dtype
            assert np.array_equal(found.arrays[spec.key], expected[spec.key])


def test_installed_package_is_found_and_one_that_is_not_is_named_with_its_command(small, tmp_path, monkeypatch):
    (entry, files), expected = small

    def install_at(place):
        installed = dataclasses.replace(entry, package=dataclasses.replace(entry.package, find=lambda: place))
        monkeypatch.setattr(registry, "SOURCES", {entry.name: installed})

    unpack(tmp_path, files)
    install_at(tmp_path)
    assert np.array_equal(sources.open(entry.name)["data"], expected["data"])
    (tmp_path / next(iter(files))).unlink()
    assert not sources.is_here(entry.name)
    with pytest.raises(MissingDependencyError, match=PurePosixPath(next(iter(files))).name):
        sources.open(entry.name)
    install_at(None)
    assert not sources.is_here(entry.name)
    with pytest.raises(MissingDependencyError) as error:
        sources.open(entry.name)
    for part in (entry.name, entry.package.name, entry.package.version, entry.package.fetch, entry.package.archive):
        assert part in str(error.value)


def test_another_content_is_refused_with_both_sums(small, tmp_path):
    (entry, files), _ = small
    changed = files | {entry.files[-1].path: b"another content"}
    for place in places(entry, changed, tmp_path):
        assert sources.is_here(entry.name, place)
        with pytest.raises(ConfigError) as error:
            sources.open(entry.name, place)
        for part in (entry.files[-1].path, entry.files[-1].sha256, hashlib.sha256(b"another content").hexdigest()):
            assert part in str(error.value)


def test_missing_file_is_named_and_a_damaged_package_file_refused(small, tmp_path):
    (entry, files), _ = small
    last = entry.files[-1].path
    rest = {name: content for name, content in files.items() if name != last} | {"some/other": b"x"}
    with pytest.raises(MissingFileError, match=f"package file .* has no {last}; '{entry.name}' is in"):
        sources.open(entry.name, pack(tmp_path / package_name(entry), rest))
    with pytest.raises(MissingFileError, match=f"holds neither .* nor {last}, which '{entry.name}' needs"):
        sources.open(entry.name, unpack(tmp_path / "unpacked", rest))
    path = pack(tmp_path / package_name(entry), files)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MissingFileError, match="damaged"):
        sources.open(entry.name, path)


def test_root_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"there is no .*nowhere\.whl.*pip download --no-deps stardist==0\.9\.2"):
        sources.open("nuclei_2d", tmp_path / "nowhere.whl")
    text = tmp_path / "text.txt"
    text.write_text("no package")
    with pytest.raises(MissingFileError, match="neither a package file nor a folder"):
        sources.open("nuclei_2d", text)
    with pytest.raises(ConfigError, match="sha256"):
        sources.open("grass", text)


def test_arrays_that_are_not_as_promised_are_refused(monkeypatch, tmp_path):
    _, files = install(monkeypatch, "gravel", [png_of(numbers((6, 7)))], {"data": numbers((1, 6, 8))})
    with pytest.raises(ShapeError, match=r"'gravel': 'data' is \(\(1, 6, 7\).*expected \(\(1, 6, 8\)"):
        sources.open("gravel", unpack(tmp_path, files))


def test_module_is_found_without_importing_it():
    assert (find_module("sklearn") / "sklearn" / "__init__.py").is_file()
    assert find_module("no_such_package_here") is None
    assert find_folder("no", "such", "folder") is None
    assert find_folder(str(Path(__file__).parent)) == Path(__file__).parent
