"""The libraries that the console's pages load: exactly the listed files, unchanged, each with its license."""

import hashlib

import pytest

from calgate.console.vendor import FOLDER, LIST, Library, libraries, loaded_files

LIBRARIES = libraries()


@pytest.mark.parametrize("library", LIBRARIES, ids=[one.package for one in LIBRARIES])
def test_library_is_unchanged_named_by_its_version_and_has_its_license_beside_it(library: Library) -> None:
    for file in library.files:
        content = (FOLDER / file.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256, file.name
        assert f"-{library.version}." in file.name
    assert [file.name for file in library.files if file.inside == "LICENSE"]


def test_folder_has_no_file_that_is_not_listed() -> None:
    listed = {file.name for library in LIBRARIES for file in library.files}
    assert {file.name for file in FOLDER.iterdir()} == listed | {LIST}


def test_pages_load_scripts_and_styles_and_nothing_else() -> None:
    assert {kind for kind, _ in loaded_files().values()} == {"text/javascript", "text/css"}
