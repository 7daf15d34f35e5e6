"""Several directories as one: which of them is searched for people."""

from calgate.plugin import Match, Matches, PeopleSearch
from calgate.plugin_loader import Directories, as_one
from support.directory import People


class Searchable(People):
    """A directory that finds the same people whatever the text is."""

    def __init__(self, *names: str, is_cut: bool = False) -> None:
        self._found = [Match(f"key of {name}", name, name) for name in names]
        self._is_cut = is_cut

    async def find_people(self, text: str, most: int) -> Matches:
        return Matches(self._found[:most], self._is_cut)


async def test_directories_that_cannot_be_searched_offer_no_search() -> None:
    assert not isinstance(as_one([People(), People()]), PeopleSearch)


async def test_person_of_two_directories_is_found_once_as_the_first_has_them() -> None:
    one = as_one([People(), Searchable("CORP\\ann", "CORP\\bob"), Searchable("corp\\ANN", "CORP\\cid")])
    assert isinstance(one, PeopleSearch)
    assert isinstance(one, Directories)
    found = await one.find_people("c", 10)
    assert [person.name for person in found.people] == ["CORP\\ann", "CORP\\bob", "CORP\\cid"]
    assert not found.is_cut


async def test_result_is_cut_where_one_directory_has_more_or_all_together_have() -> None:
    few = as_one([Searchable("CORP\\ann", is_cut=True), Searchable("CORP\\bob")])
    many = as_one([Searchable("CORP\\ann"), Searchable("CORP\\bob")])
    assert isinstance(few, PeopleSearch)
    assert isinstance(many, PeopleSearch)
    assert (await few.find_people("", 5)).is_cut
    found = await many.find_people("", 1)
    assert (len(found.people), found.is_cut) == (1, True)
