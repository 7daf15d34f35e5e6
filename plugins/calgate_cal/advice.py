"""What an administrator is told about settings that are allowed and unwise."""

from collections.abc import Sequence

from calgate_cal.settings import Config, License


def warnings(config: Config) -> Sequence[str]:
    """A sentence for each."""
    return [f"licenses.{name}.{sentence}" for name, license in config.licenses.items() for sentence in _of(license)]


def _of(license: License) -> Sequence[str]:
    session, sentences = license.session, list[str]()
    if license.named.dynamic and license.named.dynamic_for is None:
        sentences.append("named: dynamic without dynamic_for: whoever comes first takes a Named CAL for good")
    if session.reclaimable_after is not None and session.reclaimable_after > session.idle_timeout:
        sentences.append("session: reclaimable_after is longer than idle_timeout, so nothing is ever reclaimed")
    if session.minimum > session.idle_timeout:
        sentences.append("session: minimum is longer than idle_timeout, so the idle timeout never ends anything")
    if not license.enforce:
        sentences.append("enforce: nobody is denied; decisions are only recorded")
    if not any(pool.in_license for pool in (license.named, license.document, session, license.usage)):
        sentences.append("in_license: the license has no CALs at all, so everybody is denied")
    return sentences
