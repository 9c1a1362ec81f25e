"""What of a URI is a secret, and what says where it leads."""

import pytest

from schemas import credentials
from schemas.credentials import (
    has_credentials,
    learn,
    name_without_credentials,
    redact,
    redacted,
    strip_all,
    user_of,
    without_credentials,
)
from schemas.errors import DamagedSource, JobError, UsageError, reason


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_learned", set())


@pytest.mark.parametrize(
    ("uri", "shown", "place"),
    [
        ("memory://me:S3CRET@host/ck", "memory://***@host/ck", "memory://host/ck"),
        ("s3://AKIA:S3/CR+ET@b/x", "s3://***@b/x", "s3://b/x"),
        ("https://me:S3@CR/ET@h/x", "https://***@h/x", "https://h/x"),
        ("https://S3CRET@h/x", "https://***@h/x", "https://h/x"),
        ("https://me:S3CRET@[::1]:80/x", "https://***@[::1]:80/x", "https://[::1]:80/x"),
        ("sftp://me:S3CRET@h/x", "sftp://me:***@h/x", "sftp://me@h/x"),
        (
            "abfss://box@a.dfs.core.windows.net/p?sv=2&se=3&sig=S3CRET",
            "abfss://box@a.dfs.core.windows.net/p?sv=2&se=3&sig=***",
            "abfss://box@a.dfs.core.windows.net/p",
        ),
        (
            "https://h/a.xml?X-Amz-Date=2&X-Amz-Signature=S3CRET&part=1",
            "https://h/a.xml?X-Amz-Date=***&X-Amz-Signature=***&part=1",
            "https://h/a.xml?part=1",
        ),
        ("https://h/a.xml?X%2DAmz%2DSignature=S3CRET", None, "https://h/a.xml"),
        ("https://h/a?GoogleAccessId=me&Expires=1&Signature=S3CRET", None, "https://h/a"),
        ("https://h/d?file=a.xml&token=S3CRET", None, "https://h/d?file=a.xml"),
        ("https://h/d?key=in/a.xml&sas_token=S3CRET", None, "https://h/d?key=in/a.xml"),
        ("https://h/d?key=S3CRET", "https://h/d?key=***", "https://h/d"),
        ("https://h/x#access_token=S3CRET", "https://h/x#access_token=***", "https://h/x"),
        ("https://h/x;jsessionid=S3CRET/a.xml", None, "https://h/x/a.xml"),
        (
            "s3://b/x?endpoint_override=h:9&access_key=AK&secret_key=S3CRET&region=us",
            "s3://b/x?endpoint_override=h:9&access_key=***&secret_key=***&region=us",
            "s3://b/x?endpoint_override=h:9&region=us",
        ),
        (
            "zip://a.xml::https://me:S3CRET@h/z.zip?token=S3CRET",
            "zip://a.xml::https://***@h/z.zip?token=***",
            "zip://a.xml::https://h/z.zip",
        ),
        ("https://h/?to=https%3A%2F%2Fme%3AS3CRET%40h", "https://h/?to=***", "https://h/"),
    ],
)
def test_a_uri_with_credentials(uri: str, shown: str | None, place: str) -> None:
    assert redact(uri) == (shown or redact(uri))
    assert without_credentials(uri) == place and has_credentials(uri)
    for text in (redact(uri), redact(f"cannot read '{uri}', said the store"), place):
        assert "S3" not in text and "CR" not in text and "ET" not in text
    assert redact(redact(uri)) == redact(uri) and without_credentials(place) == place
    # Given again with another secret, it is the same place.
    assert without_credentials(uri.replace("S3CRET", "another")) == place


@pytest.mark.parametrize(
    "uri",
    [
        "/a/path/token=5/x.xml", "s3://bucket/path@2x", "http://localhost:8080/a@b", "az://box/p",
        "https://h/x?max_tokens=5&author=Smith", "sftp://me@h/x", "file:///a?key=b#token=c",
        "abfss://box@account/x", "https://[::1]:80/x", "zip://a.xml::/b.zip", "hub/name", "",
        "s3://b/x?region=eu&endpoint_override=h",
    ],
)  # fmt: skip
def test_a_uri_without_credentials_stays_as_it_is(uri: str) -> None:
    assert without_credentials(uri) == uri and not has_credentials(uri)
    assert user_of(uri).removesuffix("@") in ("", "me", "box")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{'aws_secret_access_key': 'a b', 'x': 1}", "{'aws_secret_access_key': '***', 'x': 1}"),
        ('{"client_secret":"abc"}', '{"client_secret":"***"}'),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("AccountKey=abc==;Name=1", "AccountKey=***;Name=1"),
        ("Credential=A/1, Signature=abc", "Credential=***, Signature=***"),
        ("refused with url: /p/?sig=abc (Caused", "refused with url: /p/?sig=*** (Caused"),
        ("config x:\n  secret: hunter2\n  to: t", "config x:\n  secret: ***\n  to: t"),
        ("s3://a/x,s3://k:s@b/y; z", "s3://a/x,s3://***@b/y; z"),
    ],
)
def test_a_text_with_credentials(text: str, shown: str) -> None:
    assert redact(text) == shown == redact(shown)


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=256, prompt_tokens: 3, stop_token_ids=[1, 2], tokenizer=/a/b",
        "run 20260101T000000Z-abcdef: 3 of 5 tokens; token: unknown key; valid: to, sources",
        "max_tokens_per_text_token: 1.5\ntoken=12,\ntoken: null",
        "IL-2 (key: see table), authors@example.org, p = 0.05, secretion=high",
    ],
)
def test_a_text_about_other_things_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_a_secret_is_known_by_itself_once_its_uri_was_seen() -> None:
    path = "/me:p%2Fss%40w@host/ck, key p/ss@w"
    assert "p/ss@w" in redact(path)
    assert learn({"sources": ["a.xml", "memory://me:p%2Fss%40w@host/ck"]})
    assert redact(path) == "/***host/ck, key ***"
    assert not learn(["a.xml", "s3://b/x", 5, None])


def test_a_short_secret_is_not_looked_for_in_words() -> None:
    learn("https://me:an@h/x")
    assert redact("an annotator, https://me:an@h/x") == "an annotator, https://***@h/x"


def test_secrets_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
        "MY_SERVICE_PASSWORD": "correct horse",
        "AZURE_STORAGE_KEY": "bm90IGEga2V5",
        "HTTPS_PROXY": "http://me:proxysecret@proxy:3128",
        "GOOGLE_APPLICATION_CREDENTIALS": "/etc/google.json",
        "TOKENIZERS_PARALLELISM": "false-or-true",
        "HF_TOKEN": "short",
    }.items():
        monkeypatch.setenv(name, value)
    said = (
        "signed with wJalrXUtnFEMI/K7MDENG, correct horse, bm90IGEga2V5 by proxysecret; "
        "/etc/google.json false-or-true short"
    )
    assert redact(said) == (
        "signed with ***, ***, *** by ***; /etc/google.json false-or-true short"
    )


def test_values_of_json() -> None:
    given = {"to": "s3://k:s@b", "n": 3, "options": {"secret_key": "x", "region": "eu"}}
    assert redacted([given, None]) == [
        {"to": "s3://***@b", "n": 3, "options": {"secret_key": "***", "region": "eu"}}, None
    ]  # fmt: skip
    assert strip_all({"base": "s3://k:s@b/x", "steps": [1, "a"]}) == {
        "base": "s3://b/x", "steps": [1, "a"]
    }  # fmt: skip
    assert name_without_credentials("a.xml?sig=x") == "a.xml"
    assert user_of("s3://k:s@b/x") == "k:s@"


def test_no_error_of_ours_holds_credentials() -> None:
    uri = "https://me:S3CRET@h/a.xml?sig=S3CRET"
    errors: list[BaseException] = [UsageError(f"source {uri}: {uri}"), JobError(uri),
                                   DamagedSource(uri, f"at {uri}")]  # fmt: skip
    for error in errors:
        assert "S3CRET" not in f"{error} {error!r} {error.args}" and "***" in str(error)
    assert "S3CRET" not in reason(OSError(f"cannot read\n  {uri}"))


def test_the_working_directory_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PWD", "OLDPWD"):
        monkeypatch.setenv(name, "/data/of/someone")
    told = "table /data/of/someone/demo"
    assert redact(told) == told
