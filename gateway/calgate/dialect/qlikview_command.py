"""Reads the XML that QlikView's AJAX client posts."""

from dataclasses import dataclass, field
from xml.parsers import expat

from calgate.dialect.protocol import Kind
from calgate.plugin.errors import BadRequest


@dataclass(slots=True)
class Command:
    """`<update mark="…" stamp="…" scope="Document" view="Sales.qvw" ident="…">` and the names of what it holds."""

    attributes: dict[str, str] = field(default_factory=dict)
    elements: set[str] = field(default_factory=set)

    @property
    def view(self) -> str | None:
        """The document, as the client names it; None for commands to the AccessPoint."""
        return self.attributes.get("view") or None

    @property
    def kind(self) -> Kind:
        """The server gives a document's session its mark in the first answer, so a command without one opens it.

        After that a command with nothing but `<poll>`, or with nothing at all, comes of itself; anything else (`<set>`,
        `<add>`, …) comes of something the user did.
        """
        if not self.attributes.get("mark"):
            return "open"
        return "poll" if self.elements <= {"poll"} else "use"


def read_command(text: bytes) -> Command:
    """Raises BadRequest for what is not one `<update>` in plain UTF-8 XML without a document type."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = reader.declaration
    parser.StartDoctypeDeclHandler = reader.document_type
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(text.decode("utf-8"), True)  # as text: expat would take a byte order mark's word over ours
    except (UnicodeDecodeError, expat.ExpatError) as error:
        raise BadRequest(f"the command is no XML in UTF-8: {error}") from error
    return reader.command


class _Reader:
    def __init__(self) -> None:
        self.command = Command()
        self._depth = 0

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise BadRequest("the command is not in UTF-8")

    def document_type(self, *unused: object) -> None:
        raise BadRequest("the command has a document type")  # and so, maybe, entities

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if (name == "update") != (self._depth == 0):
            raise BadRequest("the command is not one <update>")
        if self._depth == 0:
            if any(key != "view" and key.lower() == "view" for key in attributes):
                raise BadRequest("the command names its document in an unknown way")
            self.command.attributes = attributes
        elif self._depth == 1:
            self.command.elements.add(name)
        self._depth += 1

    def end(self, name: str) -> None:
        self._depth -= 1
