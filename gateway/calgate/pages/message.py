"""The text that people read about one refusal, in English until it is translated."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from calgate.pages.languages import Language


@dataclass(frozen=True, slots=True)
class Message:
    """The text that people read about one refusal."""

    title: str
    text: str
    advice: tuple[str, ...] = ()  # advice for the reader, most useful first
    for_administrators: tuple[str, ...] = ()  # advice for the reader's administrator
    template: str = "problem.html"
    without_page: str = ""  # replaces `text` for clients that show no page of the gateway; "": the text fits them too
    plural: str = ""  # the form of `text` for several, where it depends on the number `num`
    values: Mapping[str, str | int] = field(default_factory=dict)  # that the texts name

    def translated(self, language: Language) -> "Message":
        """Returns the message in a language, with its values in place."""

        def words(text: str) -> str:
            return language.text(text, **self.values) if text else ""

        return replace(
            self,
            title=words(self.title),
            text=self._text(language),
            advice=tuple(map(words, self.advice)),
            for_administrators=tuple(map(words, self.for_administrators)),
            without_page=words(self.without_page),
            plural="",
            values={},
        )

    def _text(self, language: Language) -> str:
        if not self.plural:
            return language.text(self.text, **self.values)
        return language.plural(self.text, self.plural, int(self.values["num"]))
