"""`[[access]]`: the rules as the settings file writes them."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calgate.access.hours import Hours, parse_hours
from calgate.paths import compile_document, compile_glob, fold
from calgate.plugin.names import parse_user
from calgate.plugin.settings import Network, Section


def _read_user(text: str) -> str:
    name = parse_user(text)
    if name.form in ("sid", "bare") and name.account.startswith("S-1-"):
        return name.account
    if name.form != "qualified" or not (name.domain and name.account):
        raise ValueError(f'a user is written "DOMAIN\\\\name" or as a SID, not {text!r}')
    return f"{name.domain}\\{name.account}"


def _is_path(text: str) -> str:
    compile_glob(text)
    if not text.startswith(("/", "**")):
        raise ValueError(f'a path begins with a slash, or with **: "/admin/**", not {text!r}')
    return text


def _is_document(text: str) -> str:
    compile_document(text)
    if "" in fold(text).rpartition("|")[2].split("/"):
        raise ValueError(
            f"a document's name is written without a leading slash and has no empty folder, not {text!r}; all "
            'documents of a folder are "Sales/**"'
        )
    return text


def _as_hours(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ValueError('hours are a string, or a list of strings, like "mon-fri 08:00-18:00"')
    return tuple(parse_hours(text) if isinstance(text, str) else text for text in texts)


class Rule(Section):
    """One `[[access]]` table of the settings file.

    It matches if every key that it has matches: one of `groups` or `users`, and one of `networks`, and one of `paths`,
    and one of `documents`, and one of `hours`. A request that opens no document matches no rule with `documents`.
    """

    name: str = Field(min_length=1)
    """The purpose of the rule; shown on the denial page and in the log."""
    # an empty list would mean no condition at all, but is more likely meant to match nobody
    groups: tuple[str, ...] = Field(default=(), min_length=1)
    """Groups that the rule applies to: name, SID or DN. Members of nested groups count."""
    users: tuple[Annotated[str, AfterValidator(_read_user)], ...] = Field(default=(), min_length=1)
    """Users that the rule applies to, in addition to those in `groups`: "DOMAIN\\\\name" or SID."""
    networks: tuple[Network, ...] = Field(default=(), min_length=1)
    """Client networks in CIDR notation. Without it the client may be anywhere."""
    paths: tuple[Annotated[str, AfterValidator(_is_path)], ...] = Field(default=(), min_length=1)
    """Paths as glob patterns; `*` does not cross a slash, `**` does. Without it the rule applies to every path. For a
    rule with `deny`, a slash at the end of a request's path does not count: servers may ignore it."""
    documents: tuple[Annotated[str, AfterValidator(_is_document)], ...] = Field(default=(), min_length=1)
    """Documents as glob patterns. A request that opens no document never matches a rule with this key."""
    hours: Annotated[tuple[Hours, ...], BeforeValidator(_as_hours, json_schema_input_type=str | list[str])] = Field(
        default=(), min_length=1
    )
    """Hours such as "mon-fri 08:00-18:00", in `timezone`; one, or a list. Without it the rule applies at any time."""
    everybody: bool = False
    """Makes a rule without groups and users apply to every user on purpose."""
    anonymous: bool = False
    """Makes the rule apply to requests on routes with `sign_in = "off"`, and to no others. Those routes are judged by
    rules only where a request opens or uses a document; then no other rule allows one, not even `everybody = true`.
    """
    deny: bool = False
    """Refuse the requests that match, instead of granting them."""
    enforce: bool = True
    """False puts a deny rule on trial: it refuses nothing, and the log says what it would have refused."""

    @model_validator(mode="after")
    def _says_whom_it_is_for(self) -> "Rule":
        if self.everybody and (self.groups or self.users):
            raise ValueError("everybody = true cannot be combined with groups or users")
        if self.anonymous and (self.everybody or self.groups or self.users):
            raise ValueError(
                "anonymous = true is for requests without a user, so it cannot be combined with groups, users or "
                "everybody; write two rules"
            )
        narrowed = (
            self.anonymous or self.groups or self.users or self.networks or self.paths or self.documents or self.hours
        )
        if not (self.everybody or narrowed):
            raise ValueError(
                "the rule has no condition: give it groups, users, networks, paths, documents or hours, "
                "or everybody = true if it is meant for all users"
            )
        if not (self.enforce or self.deny):
            raise ValueError(
                "only a rule with deny = true can be on trial (enforce = false); remove any other rule instead"
            )
        return self


def groups_of(rules: Iterable[Rule]) -> Sequence[str]:
    """Returns the groups that must be resolved before the rules can be used."""
    return sorted({group for rule in rules for group in rule.groups})
