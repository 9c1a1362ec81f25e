"""Credentials in URIs and in texts: found, hidden, left out.

Enters: URIs as a person gave them, and any text that may quote one. Leaves: the same text with
``***`` in place of secrets (:func:`redact`), or a URI that says where something is and not who may
read it (:func:`without_credentials`). Left to others: where texts leave the process.

A URI carries credentials in two places: before the host (``s3://KEY:SECRET@bucket``), and in
parameters (``?X-Amz-Signature=…``, ``?sig=…``). What a library makes of a URI in its own errors,
such as a path without its scheme, is known by the secret itself: a process notes the secrets of
every URI that it is given (:func:`learn`). The secrets of its environment are known by the names of
their variables.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
"""What stands in the place of a secret."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_END = re.compile(r"[\s\"'<>`]")
_PARAMETER = re.compile(r"(?P<start>[?&;#])(?P<name>[\w%.\-\[\]]+)=(?P<value>[^&;#\s\"'<>`]*)")
_QUOTED = re.compile(
    r"""(?P<start>(?P<name>[A-Za-z][\w.\-]*)["']?\s*[:=]\s*(?P<quote>["']))(?P<value>.+?)(?P=quote)"""
)
_ASSIGNED = re.compile(r"""(?P<start>(?P<name>[A-Za-z][\w.\-]*)=(?!=))(?P<value>[^\s"'&;,)\]}]+)""")
_LINE = re.compile(
    r"^(?P<start>[ \t]*(?P<name>[\w.\-]+):[ \t]+)(?P<value>\S+)[ \t]*$", re.MULTILINE
)
_HEADER = re.compile(
    r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)?\s*)[^\s\"']+"
)

_FILE = re.compile(r"\.(?:xml|gz|parquet|jsonl|ndjson|json|txt|zip|tar)$", re.I)
"""The end of a file's name: ``?key=folder/a.xml`` is no secret."""

_WITH_USER = {"sftp", "ssh", "scp", "hdfs", "viewfs", "webhdfs", "ftp", "ftps", "smb"}
"""Schemes whose user is needed to find the file, and is no secret without its password."""
_WITH_CONTAINER = {"abfs", "abfss", "wasb", "wasbs"}
"""Schemes in which what stands before the host is the name of a container."""

_SECRET_WORDS = {
    "sig", "signature", "token", "secret", "password", "passwd", "passphrase", "pwd", "credential",
    "credentials", "authorization", "bearer", "hmac", "jwt", "sas", "apikey", "accesskey",
}  # fmt: skip
_SECRET_PARTS = (
    "accesskey", "secretkey", "apikey", "accountkey", "privatekey", "sharedkey", "authtoken",
    "accesstoken", "sessiontoken", "sastoken", "securitytoken", "signature", "password", "passwd",
    "passphrase", "credential", "clientsecret", "keyid", "accessid", "keypairid", "sessionid",
)  # fmt: skip
_PARAMETER_WORDS = {
    "key", "code", "pass", "pw", "auth", "session", "policy", "cookie", "otp", "pin", "amz", "goog",
    "user", "username", "login", "hdnts", "hdnea", "ticket",
}  # fmt: skip
"""Words that name a secret in a URI's parameters, where elsewhere they may be about anything."""

_SIGNED = {
    "expires", "sv", "ss", "srt", "sp", "se", "st", "spr", "sr", "sip", "skoid", "sktid", "skt",
    "ske", "sks", "skv", "saoid", "suoid", "scid", "sdd", "response-content-disposition",
}  # fmt: skip
"""Parameters beside a signature that change with it: they are of the permission, not the file."""

_NO_SECRETS = {"file", "path", "dir", "sock", "home", "ids", "url", "uri", "endpoint"}
_NO_SECRET_VARIABLES = {"GOOGLE_APPLICATION_CREDENTIALS", "PWD", "OLDPWD"}
"""Variables that name a file or a folder: every path of a shell's working directory has its PWD."""
_MIN_CHARACTERS, _MIN_OF_ENVIRONMENT = 4, 8
"""A shorter secret is not looked for by itself: it may be part of any word."""

_learned: set[str] = set()


def redact(text: str) -> str:
    """``text`` with ``***`` in place of every secret that is in it; done twice, it is the same.

    A URI in it keeps its host, path and other parameters.
    """
    if "://" in text:
        text = "".join(_pieces(text))
    text = _PARAMETER.sub(_hide_parameter, text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _QUOTED.sub(_hide_value, text)
    text = _ASSIGNED.sub(_hide_value, text)
    text = _LINE.sub(_hide_value, text)
    for secret in sorted(_learned | set(_of_environment()), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def redacted(value: Any) -> Any:
    """A value as JSON takes it, with every text in it redacted, and each text that stands under a
    secret's name (``{"secret_access_key": …}``)."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            redact(k) if isinstance(k, str) else k: HIDDEN
            if isinstance(k, str) and isinstance(v, str) and v and _is_secret(k)
            else redacted(v)
            for k, v in value.items()
        }
    return [redacted(v) for v in value] if isinstance(value, list | tuple) else value


def without_credentials(uri: str) -> str:
    """Where a URI (or path) leads, without what lets one read it: the same for every secret.

    Left out are user and password, and the parameters of a signature: also those that change with
    it, such as its date. ``zip://a.xml::https://…`` is a chain of URIs, and each is treated so.
    A plain path comes back as it is.
    """
    if "://" not in uri:
        return uri
    parts = []
    for part in uri.split("::"):
        scheme = _SCHEME.match(part)
        if scheme is None or scheme[0] == "file://":
            parts.append(part)
            continue
        user, rest = _split_user(part[scheme.end() :])
        parts.append(scheme[0] + _kept_user(scheme[0], user) + _without_signature(rest))
    return "::".join(parts)


def name_without_credentials(name: str) -> str:
    """The name or path of a file in a store, as a piece of its URI: without the parameters of a
    signature that stand behind it."""
    return without_credentials(name) if "://" in name else _without_signature(name)


def strip_all(value: Any) -> Any:
    """A value as JSON takes it, with every text in it as :func:`without_credentials` gives it."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {k: strip_all(v) for k, v in value.items()}
    return [strip_all(v) for v in value] if isinstance(value, list | tuple) else value


def has_credentials(uri: str) -> bool:
    """Whether a URI carries credentials."""
    return without_credentials(uri) != uri


def user_of(uri: str) -> str:
    """User and password of a URI as they stand there, with the ``@``; empty if there are none."""
    scheme = _SCHEME.match(uri)
    user = _split_user(uri[scheme.end() :])[0] if scheme else None
    return "" if user is None else f"{user}@"


def learn(value: Any) -> bool:
    """Note the secrets of a URI, and of every URI in a list or mapping, so that :func:`redact`
    finds them also by themselves; gives whether there were any."""
    if isinstance(value, Mapping | list | tuple):
        inner = value.values() if isinstance(value, Mapping) else value
        return sum([learn(v) for v in inner]) > 0
    if not isinstance(value, str) or "://" not in value:
        return False
    found = {s for s in _secrets_of(value) if len(s) >= _MIN_CHARACTERS}
    _learned.update(found)
    return bool(found) or has_credentials(value)


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces, in which users and passwords of URIs are hidden."""
    at = 0
    starts = list(_SCHEME.finditer(text))
    for i, scheme in enumerate(starts):
        if scheme.start() < at:
            continue
        yield text[at : scheme.end()]
        limit = starts[i + 1].start() if i + 1 < len(starts) else len(text)
        end = _END.search(text, scheme.end(), limit)
        at = end.start() if end else limit
        user, rest = _split_user(text[scheme.end() : at])
        if user is not None:
            name = _kept_user(scheme[0], user).removesuffix("@")
            if name == user:
                yield f"{user}@"
            else:
                yield f"{name}:{HIDDEN}@" if name else f"{HIDDEN}@"
        yield rest
    yield text[at:]


def _split_user(rest: str) -> tuple[str | None, str]:
    """What stands before the host in a URI (None: nothing), and the rest of it, from the host on.

    ``rest`` is the URI without its scheme. A password may hold a ``/`` or ``@`` that should
    have been escaped, as the secret keys of AWS do: it then goes to the last ``@``.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    name, colon, after = authority.partition(":")
    if "@" in authority and not colon:
        user, _, host = authority.rpartition("@")
        return user, host + rest[len(authority) :]
    is_port = re.fullmatch(r"\d{0,5}", after)
    if "@" in name or not colon or (is_port and "@" not in authority):
        user, at, host = authority.rpartition("@")
        return (user, host + rest[len(authority) :]) if at else (None, rest)
    before = re.split(r"[?#]", rest, maxsplit=1)[0] if "@" in authority else rest
    user, at, _ = before.rpartition("@")
    return (user, rest[len(user) + 1 :]) if at else (None, rest)


def _kept_user(scheme: str, user: str | None) -> str:
    """What of a URI's user says where the file is, with its ``@``; mostly nothing."""
    if user is None:
        return ""
    kind, (name, colon, _) = scheme.removesuffix("://").lower(), user.partition(":")
    if kind in _WITH_USER or (kind in _WITH_CONTAINER and not colon):
        return f"{name}@"
    return ""


def _without_signature(rest: str) -> str:
    """A URI from its host on, without the parameters that carry a signature or go with it."""
    path, mark, query = rest.partition("?")
    query, fragment_mark, fragment = query.partition("#")
    if not mark:
        path, fragment_mark, fragment = rest.partition("#")
    if any(map(_is_signature, re.split("[&;]", fragment))):
        fragment_mark = fragment = ""
    path = re.sub(r";([^;/?#]*)", lambda m: "" if _is_signature(m[1]) else m[0], path)
    given = [p for p in re.split("[&;]", query) if p]
    kept = [p for p in given if not _is_signature(p)]
    if len(kept) < len(given):
        kept = [p for p in kept if unquote(p.partition("=")[0]).lower() not in _SIGNED]
        query = "&".join(kept)
    mark = mark if query or (mark and not given) else ""
    return f"{path}{mark}{query}{fragment_mark}{fragment}"


def _is_signature(parameter: str) -> bool:
    name, equals, value = parameter.partition("=")
    return bool(equals) and _is_secret_parameter(name, value)


@lru_cache(maxsize=4096)
def _is_secret(name: str, in_uri: bool = False) -> bool:
    """Whether something of this name is a secret; ``in_uri``: as one of a URI's parameters."""
    name = unquote(name)
    words = {
        w.lower()
        for w in re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", name)
        if w
    }
    if words & _NO_SECRETS and not in_uri:
        return False
    joined = re.sub(r"[^a-z]", "", name.lower())
    if words & _SECRET_WORDS or any(part in joined for part in _SECRET_PARTS):
        return True
    return in_uri and bool(words & _PARAMETER_WORDS)


def _is_secret_parameter(name: str, value: str) -> bool:
    """Whether a parameter of a URI is a secret: by its name, or as a URI with credentials."""
    plain = unquote(value)
    if "://" in plain and plain != value and has_credentials(plain):
        return True
    return _is_secret(name, in_uri=not _FILE.search(plain))


def _hide_parameter(match: re.Match[str]) -> str:
    if not match["value"] or not _is_secret_parameter(match["name"], match["value"]):
        return match[0]
    return f"{match['start']}{match['name']}={HIDDEN}"


def _hide_value(match: re.Match[str]) -> str:
    """What stands under a secret's name, outside of a URI; no list or mapping, nor a number of
    tokens."""
    name, value = match["name"], match["value"]
    if value[0] in "[({<" or value in ("null", "None") or not _is_secret(name):
        return match[0]
    if "token" in name.lower() and re.fullmatch(r"[\d.,]+", value):
        return match[0]
    return f"{match['start']}{HIDDEN}{match.groupdict().get('quote') or ''}"


def _secrets_of(uri: str) -> Iterator[str]:
    """The secrets of a URI, as they stand there and as libraries spell them."""
    for part in uri.split("::"):
        scheme = _SCHEME.match(part)
        user, rest = _split_user(part[scheme.end() :]) if scheme else (None, part)
        if scheme and user is not None and _kept_user(scheme[0], user) != f"{user}@":
            name, colon, password = user.partition(":")
            yield f"{user}@"
            yield from _spellings(password if colon else name)
            if scheme[0].lower() in ("s3://", "s3a://", "s3n://", "gs://", "gcs://"):
                yield from _spellings(name)
        for match in _PARAMETER.finditer(rest):
            value = match["value"]
            if "://" in (inner := unquote(value)) and inner != uri:
                yield from _secrets_of(inner)
            elif _is_secret_parameter(match["name"], value):
                yield from _spellings(value)


def _spellings(secret: str) -> Iterator[str]:
    plain = unquote(secret)
    yield from {secret, plain, quote(plain, safe=""), quote(plain), quote_plus(plain)}


def _of_environment() -> Iterator[str]:
    """The secrets that the environment's variables hold."""
    for name, value in os.environ.items():
        if len(value) < _MIN_OF_ENVIRONMENT or name in _NO_SECRET_VARIABLES:
            continue
        if "://" in value:
            yield from (s for s in _secrets_of(value) if len(s) >= _MIN_OF_ENVIRONMENT)
        if _is_secret(name) or name.endswith("_KEY"):
            yield value
