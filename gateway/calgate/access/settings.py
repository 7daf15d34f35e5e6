"""`[[access]]`: the rules as the settings file writes them."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calgate.access.hours import Hours, parse_hours
from calgate.paths import compile_glob, fold
from calgate.plugin.settings import Network, Section


def _is_user(text: str) -> str:
    if "\\" not in text and not text.startswith("S-1-"):
        raise ValueError(f'a user is written "DOMAIN\\\\name" or as a SID, not {text!r}')
    return text


def _is_path(text: str) -> str:
    compile_glob(text)
    if not text.startswith(("/", "**")):
        raise ValueError(f'a path begins with a slash, or with **: "/admin/**", not {text!r}')
    return text


def _is_document(text: str) -> str:
    compile_glob(text)
    if "" in fold(text).split("/"):
        raise ValueError(
            f"a document's name is written without a slash at its beginning and has no empty folder, not {text!r}; all "
            'that is in a folder is "Sales/**"'
        )
    return text


def _as_hours(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ValueError('hours are a string, or a list of strings, like "mon-fri 08:00-18:00"')
    return tuple(parse_hours(text) if isinstance(text, str) else text for text in texts)


class Rule(Section):
    """One `[[access]]` table of the settings file.

    What is given must all be so: one of `groups` or `users`, and one of `networks`, and one of `paths`, and one of
    `documents`, and one of `hours`. A request that opens no document matches no rule with `documents`.
    """

    name: str = Field(min_length=1)
    # an empty list would be no condition at all, and is more likely meant for nobody
    groups: tuple[str, ...] = Field(default=(), min_length=1)  # name, SID or DN, as the directory resolves them
    users: tuple[Annotated[str, AfterValidator(_is_user)], ...] = Field(default=(), min_length=1)
    networks: tuple[Network, ...] = Field(default=(), min_length=1)
    paths: tuple[Annotated[str, AfterValidator(_is_path)], ...] = Field(default=(), min_length=1)
    documents: tuple[Annotated[str, AfterValidator(_is_document)], ...] = Field(default=(), min_length=1)
    hours: Annotated[tuple[Hours, ...], BeforeValidator(_as_hours)] = Field(default=(), min_length=1)
    everybody: bool = False  # the word for a rule without any of the above
    deny: bool = False
    enforce: bool = True  # false: on trial, see `Rules.decide`

    @model_validator(mode="after")
    def _says_whom_it_is_for(self) -> "Rule":
        if self.everybody and (self.groups or self.users):
            raise ValueError("everybody = true leaves no place for groups or users")
        narrowed = self.groups or self.users or self.networks or self.paths or self.documents or self.hours
        if not (self.everybody or narrowed):
            raise ValueError(
                "the rule names nobody and nothing: give it groups, users, networks, paths, documents or hours, "
                "or everybody = true if it is meant for all"
            )
        if not (self.enforce or self.deny):
            raise ValueError(
                "only a rule with deny = true can be on trial (enforce = false); leave the others out instead"
            )
        return self


def groups_of(rules: Iterable[Rule]) -> Sequence[str]:
    """The groups that must be resolved before the rules can be used."""
    return sorted({group for rule in rules for group in rule.groups})
