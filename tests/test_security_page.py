"""What docs/security.md says is so."""

import re
from pathlib import Path

import pytest

from engine.refresh import lock
from schemas.credentials import has_credentials, redact, without_credentials

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def test_the_uris_that_it_calls_secret_are() -> None:
    given = re.findall(r"`(\w+://[^`]*(?:SECRET|password|Signature)[^`]*)`", PAGE)
    assert len(given) == 3 and all(has_credentials(u) for u in given)
    shown = re.findall(r"`(\S*\*\*\*\S*)`", PAGE)
    assert redact("s3://KEY:SECRET@bucket/in") in shown and "?sig=***" in shown


@pytest.mark.parametrize(
    "name",
    ["sig", "Signature", "token", "access_key", "secret", "password", "key", "X-Amz-Date",
     "X-Goog-Credential"],
)  # fmt: skip
def test_the_parameters_that_it_names_are_left_out(name: str) -> None:
    assert f"`{name}`" in PAGE or f"`{name.rpartition('-')[0]}-…`" in PAGE
    assert without_credentials(f"https://h/a.xml?{name}=x") == "https://h/a.xml"


def test_the_variables_that_it_names_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    names = re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE)
    assert len(names) >= 8
    for name in names:
        if name.endswith(("ACCOUNT_NAME", "APPLICATION_CREDENTIALS")):
            continue  # a name, and the path of a file
        monkeypatch.setenv(name, "a value of its own")
        assert redact("it is a value of its own") == "it is ***"
        monkeypatch.delenv(name)


def test_the_times_of_the_lock() -> None:
    assert lock.LEASE_S == 5 * 60 and "five minutes" in PAGE
    assert lock.LEASE_S / lock._RENEWALS == 10 and "every ten seconds" in PAGE


def test_the_modules_and_pages_that_it_names_are_there() -> None:
    for path in re.findall(r"\]\(\.\./([\w/.]+)\)|`(tests/[\w/.]+)`", PAGE):
        assert (ROOT / "".join(path)).is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for heading in re.findall(r"docs/security\.md#([\w-]+)", readme):
        assert heading in [h.lower().replace(" ", "-") for h in re.findall(r"## (.*)", PAGE)]
