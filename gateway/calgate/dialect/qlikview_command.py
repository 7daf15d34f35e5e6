"""Reads the XML that QlikView's AJAX client posts."""

from dataclasses import dataclass, field
from xml.parsers import expat

from calgate.dialect.protocol import Kind
from calgate.plugin.errors import BadRequest

_NAMES = ("view", "host")


@dataclass(slots=True)
class Command:
    """`<update mark="…" stamp="…" scope="Document" view="Sales.qvw" ident="…">` and the names of the elements in it."""

    attributes: dict[str, str] = field(default_factory=dict)
    elements: set[str] = field(default_factory=set)

    @property
    def view(self) -> str | None:
        """The document, as the client names it; None for commands to the AccessPoint."""
        return self.attributes.get("view") or None

    @property
    def host(self) -> str:
        """The server that holds the document, where the command names it; Qva.js does so in the query alone."""
        return self.attributes.get("host", "")

    @property
    def kind(self) -> Kind:
        """Whether the command opens, uses or polls the document.

        The server gives a document's session its mark in the first response, so a command without a mark opens the
        document. Later the client sends commands with nothing but `<poll>`, or with nothing at all, by itself; anything
        else (`<set>`, `<add>`, …) is sent because the user did something.
        """
        if not self.attributes.get("mark"):
            return "open"
        return "poll" if self.elements <= {"poll"} else "use"


def read_command(text: bytes) -> Command:
    """Raises BadRequest unless the text is one `<update>` in plain UTF-8 XML without a document type."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = reader.declaration
    parser.StartDoctypeDeclHandler = reader.document_type
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(text.decode("utf-8"), True)  # as text: expat would believe a byte order mark
    except (UnicodeDecodeError, expat.ExpatError) as error:
        raise BadRequest(f"the command is not XML in UTF-8: {error}") from error
    return reader.command


class _Reader:
    def __init__(self) -> None:
        self.command = Command()
        self._depth = 0

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() != "utf-8":
            raise BadRequest("the command is not in UTF-8")

    def document_type(self, *unused: object) -> None:
        raise BadRequest("the command has a document type")  # which may define entities

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if (name == "update") != (self._depth == 0):
            raise BadRequest("the command is not one <update>")
        if self._depth == 0:
            if any(key not in _NAMES and key.lower() in _NAMES for key in attributes):
                raise BadRequest("the command names its document in an unknown way")
            self.command.attributes = attributes
        else:  # at any depth: a command within <poll> is a command
            self.command.elements.add(name)
        self._depth += 1

    def end(self, name: str) -> None:
        self._depth -= 1
