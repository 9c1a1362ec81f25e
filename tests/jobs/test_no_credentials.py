"""No output, log or table holds a credential, whatever option it came by.

The commands and their options are those of the command table, so that a new one is tried as well.
"""

import gzip
import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from deltalake import DeltaTable
from nlm_server import nlm_server
from pydantic import BaseModel
from s3_server import BUCKET, Server, s3_server
from typer.testing import CliRunner

from jobs.cli import app
from jobs.cli.commands import Command, every_command
from schemas import credentials
from schemas.configs.render import part_of

SECRETS = ("S3CRETone", "S3CRETtwo", "ofTHEenvironment")
FAKE = "fake_backend:FakeBackend"
COMMANDS = every_command()

URIS = (
    "memory://me:S3CRETone@host/in/a.xml",
    "memory://host/in/a.xml?X-Amz-Signature=S3CRETone&X-Amz-Date=2026",
    "s3://AKIAS3CRETone:S3CRETtwo@bucket/in?endpoint_override=127.0.0.1:1&scheme=http",
    "http://me:S3CRETone@127.0.0.1:1/in/a.xml?sig=S3CRETtwo",
    "http://S3CRETone@127.0.0.1:1/pubmed?token=S3CRETtwo",
    "az://S3CRETone:S3CRETtwo@box/in?sv=2026&se=9&sig=S3CRETone",
    "gopher://me:S3CRETone@host/in?access_key=S3CRETtwo",
    "zip://a.xml::http://me:S3CRETone@127.0.0.1:1/in.zip?token=S3CRETtwo",
)
"""One of each kind that is opened, and of those that are not."""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[2])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(credentials, "_learned", set())


class Said:
    """All that commands have put out: results, messages, logs of every library, stray output."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]):
        self._caplog, self._capfd = caplog, capfd
        caplog.set_level(logging.DEBUG)

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout and all that was said by one command, which is looked through."""
        self._caplog.clear()
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        stray = self._capfd.readouterr()
        raised = result.exc_info[1] if result.exc_info else None
        said = [result.stdout, result.stderr, self._caplog.text, stray.out, stray.err]
        if not isinstance(raised, SystemExit | None):
            said += traceback.format_exception(raised)
        whole = "\n".join(said)
        for secret in SECRETS:
            assert secret not in whole, f"{secret} by {arguments}:\n{whole}"
        return result.exit_code, result.stdout, whole


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Said:
    return Said(caplog, capfd)


def text_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The keys of a config that take a text, with dots for nested ones, and whether a list."""
    for name, field in model.model_fields.items():
        part, kinds = part_of(field), (field.annotation, *get_args(field.annotation))
        if part is not None and any(getattr(k, "__origin__", k) in (list, dict) for k in kinds):
            continue  # entries are given by options of their own
        if part is not None:
            yield from text_keys(part, f"{prefix}{name}.")
        elif any(k is str or getattr(k, "__origin__", None) is dict for k in kinds):
            yield prefix + name, False
        elif any(getattr(k, "__origin__", None) is list for k in kinds):
            yield prefix + name, True


def given(command: Command, values: dict[str, Any]) -> list[str]:
    """The command line that sets keys of a command's config; values are JSON, and so YAML."""
    pairs = (f"{key}={json.dumps(value)}" for key, value in values.items())
    return [word for pair in pairs for word in ("--set", pair)]


def good_values(folder: Path) -> dict[str, Any]:
    """What most keys may be, so that a command gets as far as the one that it is tried with. No
    source is there, so that nothing is annotated."""
    (folder / "a.pubtator").write_text("1|t|Aspirin\n1|a|\n1\t0\t7\tAspirin\tChemical\n")
    files = {"sources": [str(folder / "none.xml")], "gold": str(folder / "a.pubtator")}
    return files | {
        "to": str(folder / "t"), "checkpoint": "nano", "backend": FAKE, "format": "jsonl",
        "predictions": files["gold"], "query": "SELECT 1", "pmid": 1, "kind": "updates",
        "against": "nano", "base": "no/such", "name": "n", "retries": 0, "backoff_seconds": 0,
        "mirror": {"to": str(folder / "m"), "source": "http://127.0.0.1:1/pubmed", "retries": 0},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_a_command_is_quoted_with_its_secret(
    name: str, tmp_path: Path, said: Said
) -> None:
    command, good = COMMANDS[name], good_values(tmp_path)
    fields = command.model().model_fields
    good = {k: v for k, v in good.items() if k in fields}
    if name == "evaluate":
        good = {k: v for k, v in good.items() if k not in ("gold", "predictions")}
    keys = dict(text_keys(command.model()))
    assert keys, "a command without a text?"
    for uri in URIS:
        values = {key: [uri] if many else uri for key, many in keys.items()}
        said.run(*name.split(), *given(command, values))
        said.run(*name.split(), *given(command, good | values), "--verbose")
    for number, (key, many) in enumerate(keys.items()):
        uri = URIS[number % len(URIS)]
        code, _, _ = said.run(*name.split(), *given(command, good | {key: [uri] if many else uri}))
        assert code in (0, 1, 2, 3)
    # As an argument, an unknown option, a wrong number, a config, and in a broken config.
    uri = URIS[3]
    config = tmp_path / "job.yaml"
    config.write_text(f"to: [{uri}\n  x: {{secret_key: S3CRETone\n")
    for words in ([uri, uri, uri], [f"--no-such={uri}"], ["--limit", uri], ["--config", uri],
                  ["--set", uri], ["--set", f"storage={{secret: '{uri}'}}"],
                  ["--config", str(config)]):  # fmt: skip
        code, _, _ = said.run(*name.split(), *words)
        assert code in (1, 2, 3), words


def test_a_fault_of_ours_is_told_without_the_secret(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: Any) -> None:
        raise ZeroDivisionError(f"of {config.source}")

    monkeypatch.setattr("jobs.history.run", fail)
    code, _, whole = said.run("history", "--from", URIS[0])
    assert code == 1 and "Traceback" in whole
    assert "ZeroDivisionError: of memory://***@host/in/a.xml" in whole


def test_a_table_takes_no_credentials_and_says_where_they_go(said: Said, tmp_path: Path) -> None:
    good = good_values(tmp_path)
    for root in ("s3://AKIA:S3CRETone@bucket/t", "az://box/t?sig=S3CRETone"):
        for words in (
            ["annotate", good["sources"][0], "--to", root], ["replay", "--to", root],
            ["sql", "SELECT 1", "--from", root], ["show", "1", "--from", root],
            ["history", "--from", root], ["optimize", "--to", root], ["vacuum", "--to", root],
            ["refresh", "--to", root, "--source", good["sources"][0]],
        ):  # fmt: skip
            code, _, whole = said.run(*words)
            assert code == 2 and "AWS_SECRET_ACCESS_KEY" in whole and "***" in whole


# Jobs that are done, with a server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server") as started:
        yield started


def uri_of(server: Server, secret: str, path: str) -> str:
    host = server.url.removeprefix("http://")
    rest = f"{path}?endpoint_override={host}&scheme=http&region=us-east-1"
    return f"s3://AKIAme:{secret}@{BUCKET}/{rest}"


def stored(folder: Path) -> str:
    """All rows of all tables below a folder, their logs, and all other files as they are."""
    parts = []
    for log in folder.rglob("_delta_log"):
        parts += [str(r) for r in DeltaTable(log.parent).to_pyarrow_table().to_pylist()]
        parts.append(str(DeltaTable(log.parent).history()))
    for file in folder.rglob("*"):
        if file.is_file():
            parts += [str(file), file.read_bytes().decode("latin-1")]
    return "\n".join(parts)


ARTICLE = (
    "<PubmedArticle><MedlineCitation><PMID>{0}</PMID><Article><ArticleTitle>aspirin {0}"
    "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
)


@pytest.mark.slow
def test_jobs_with_secrets_in_their_uris(
    server: Server, said: Said, tmp_path: Path, ray_session: None
) -> None:
    import ray

    articles = "".join(map(ARTICLE.format, (1, 2, 3))) + ARTICLE.format("x")
    body = f"<PubmedArticleSet>{articles}</PubmedArticleSet>"
    server.client.put_object(Bucket=BUCKET, Key="in/a.xml", Body=body.encode())
    gold = "1|t|aspirin\n1|a|\n1\t0\t7\taspirin\tChemical\n\n"
    server.client.put_object(Bucket=BUCKET, Key="gold.pubtator", Body=gold.encode())
    for file in (Path(__file__).parents[2] / "checkpoints/nano").iterdir():
        if file.suffix in (".json", ".safetensors"):
            server.client.upload_file(str(file), BUCKET, f"ck/{file.name}")
    root, work = tmp_path / "out/t", ["--backend", FAKE, "--json"]
    for turn, secret in enumerate(SECRETS[:2]):
        source, checkpoint = uri_of(server, secret, "in/"), uri_of(server, secret, "ck")
        model = ["--checkpoint", checkpoint]
        code, out, whole = said.run("annotate", source, "--to", root, *model, *work)
        assert code == 3 and "rejected record 4" in whole  # said with the source's URI
        result = json.loads(out)
        # Given again with another secret, it is the same source and the same checkpoint.
        assert (result["annotated"], result["settled"]) == ((3, 0) if turn == 0 else (0, 3))
        examples = tmp_path / f"out/examples{turn}"
        corpus = uri_of(server, secret, "gold.pubtator")
        code, _, whole = said.run("corpus", "import", corpus, "--to", examples, "--types",
                              "Chemical=chemical", "--split", "test", "--format", "pubtator",
                              "--json")  # fmt: skip
        assert code == 0, whole
        said.run("evaluate", "--gold", corpus, "--predictions", corpus, "--json")
        code, _, whole = said.run(
            "evaluate", "--corpus", examples / "gold.sentences.parquet", *model, *work
        )
        assert code == 0, whole
        code, _, whole = said.run("replay", "--to", root, "--status", "ok", *model, *work)
        assert code == 0, whole
        code, _, whole = said.run(
            "compare", "--source", source, *model, "--against", checkpoint, *work
        )
        assert code == 0, whole
        code, _, whole = said.run(
            "checkpoint", "merge", checkpoint, "--to", tmp_path / "out/merged"
        )
        assert code == 2, whole
        with nlm_server() as nlm:
            nlm.publish("updatefiles", "pubmed26n0001.xml.gz", gzip.compress(body.encode()))
            with_user = nlm.url.replace("http://", f"http://me:{secret}@")
            mirror = {"to": uri_of(server, secret, "mirror"), "source": with_user}
            code, out, whole = said.run("mirror", "updates", "--to", mirror["to"], "--from",
                                        with_user, "--json")  # fmt: skip
            assert code == 0, whole
            assert json.loads(out)["fetched"] == (1 if turn == 0 else 0)
            turns = ["refresh", "--to", tmp_path / "out/r", *model, *work]
            turns += given(COMMANDS["refresh"], {"mirror": mirror})
            code, out, whole = said.run(*turns)
            assert json.loads(out)["annotated"] == (3 if turn == 0 else 0)
            assert json.loads(out)["outcome"] == ("done" if turn == 0 else "nothing to do")
        for view in ("annotators", "runs", "files", "annotations"):
            said.run("sql", f"SELECT * FROM {view}", "--from", root, "--format", "jsonl")
        said.run("show", "1", "--from", root, "--json")
        said.run("history", "--from", root, "--json")
        for form in ("jsonl", "pubtator", "bioc-json", "parquet"):
            to = tmp_path / f"out/{form}{turn}"
            assert said.run("export", "--from", root, "--to", to, "--format", form)[0] == 0
        said.run("optimize", "--to", root, "--json")
        said.run("vacuum", "--to", root, "--json")
    rows = DeltaTable(root / "annotators").to_pyarrow_table().to_pylist()
    (place,) = [r["checkpoint"] for r in rows]
    assert place.startswith(f"s3://{BUCKET}/ck?endpoint_override=")
    assert len(DeltaTable(root / "files").to_pyarrow_table()) == 1
    kept = stored(tmp_path / "out") + stored(tmp_path / "cache")
    for item in server.client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        if not item["Key"].startswith("ck/"):  # what the mirror has written, its record too
            content = server.client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
            kept += item["Key"] + content.decode("latin-1")
    assert ".mirror-updates.json" in kept
    session = ray._private.worker._global_node.get_session_dir_path()
    logs = stored(Path(session) / "logs")
    assert "gcs_server" in logs
    for secret in SECRETS:
        assert secret not in kept and secret not in logs
