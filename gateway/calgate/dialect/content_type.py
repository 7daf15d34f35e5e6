"""Reads the charset of a Content-Type header (RFC 9110, section 8.3.1) in one way, or refuses the header."""

import re

from calgate.plugin.errors import BadRequest

_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TYPE = re.compile(rf"{_TCHARS}/{_TCHARS}")
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*(?:({_TCHARS})=({_TCHARS}|"(?:[\t !#-\[\]-~]|\\[\t -~])*"))?')


def charset_of(content_type: str) -> str:
    """Returns the charset in lower case, "" where the header names none. Raises BadRequest for a malformed header.

    The .NET Framework looks for the text "charset" after a blank, a comma or a semicolon, in quotes as well, so it is
    refused within another parameter's value; and so is a charset that is given twice, or empty.
    """
    text = content_type.strip(" \t")
    if not text:
        return ""
    media_type = _TYPE.match(text)
    if media_type is None:
        raise BadRequest("the Content-Type is malformed")
    position, charset = media_type.end(), ""
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is None:
            raise BadRequest("the Content-Type is malformed")
        position = parameter.end()
        name, value = (parameter[1] or "").lower(), (parameter[2] or "").strip('"').lower()
        if name == "charset":
            if charset or not value:
                raise BadRequest("the Content-Type has a second charset, or an empty one")
            charset = value
        elif "charset" in value:
            raise BadRequest("the Content-Type has a charset within another parameter")
    return charset
