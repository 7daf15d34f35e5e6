"""The settings file as a plugin's commands and checks see it: `calgate.plugin.Site`."""

from datetime import tzinfo
from zoneinfo import ZoneInfo

from calgate.access.rules import Rules
from calgate.access.settings import groups_of
from calgate.config.model import Core
from calgate.dialect.document_names import canonical_document
from calgate.plugin.identity import Directory, Person


class SettingsSite:
    """The site that one settings file describes."""

    def __init__(self, core: Core, directory: Directory) -> None:
        self._core = core
        self._directory = directory
        self._rules: Rules | None = None

    @property
    def zone(self) -> tzinfo:
        return ZoneInfo(self._core.timezone)

    def document(self, license: str, name: str) -> str:
        """Reads a name as the dialects of the license's routes do; the strictest of them decides."""
        routes = [route for route in self._core.routes if route.license == license]
        return canonical_document(name, windows=any(route.windows for route in routes))

    async def could_admit(self, person: Person) -> bool:
        """Resolves the rules' groups at the first call: a command lasts seconds, and can ask of thousands of users."""
        if self._rules is None:
            groups = await self._directory.resolve(groups_of(self._core.access))
            self._rules = Rules(self._core.access, groups, self._core.timezone)
        return self._rules.could_admit(person)
