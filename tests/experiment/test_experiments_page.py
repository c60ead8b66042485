import doctest
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "experiments.rst"


def test_snippets_of_the_page_on_experiments_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=flags)
    assert result.failed == 0
    assert result.attempted > 15
