"""The line of a key, in every form in which TOML can write one."""

import pytest

from calgate.config.line_numbers import LineNumbers

TEXT = """# a comment = with an equals sign
state_dir = "/x"
[listen]
bind = "127.0.0.1:80"
tls = { certificate = "a", key = "b" }

[licenses.demo]
"contact" = "help"
session.in_license = 2
[[routes]]
path = "/"
[routes.health]
every = "1s"
[[routes]]
upstreams = [
  "http://a",
  "b",
]
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("state_dir",), 2),
        (("listen",), 3),
        (("listen", "bind"), 4),
        (("listen", "tls", "key"), 5),
        (("licenses", "demo", "contact"), 8),
        (("licenses", "demo", "session", "in_license"), 9),
        (("routes", 0, "path"), 11),
        (("routes", 0, "health", "every"), 13),
        (("routes", 1, "upstreams"), 15),
        (("routes", 1, "upstreams", 1), 15),
        (("routes", 1, "license"), 14),
        (("listen", "absent"), 3),
        (("nowhere", "at", "all"), 1),
        ((), 1),
    ],
)
def test_line_is_the_keys_or_that_of_the_nearest_key_around_it(path: tuple[str | int, ...], line: int) -> None:
    assert LineNumbers(TEXT).of(path) == line


def test_first_of_two_equal_keys_counts() -> None:
    assert LineNumbers("a = 1\na = 2\n").of(("a",)) == 1
