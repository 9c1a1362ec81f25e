"""``pubmark check``: what a job needs, before it is started."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from engine.runs import preflight
from engine.runs.cluster import connected
from engine.runs.preflight import Finding, examine
from engine.steps.annotator import Annotator, annotator_of
from engine.tables.probe import try_writing
from schemas.configs.check import CheckConfig


@dataclass(frozen=True)
class CheckResult:
    """What was found, in the order in which it was looked for."""

    findings: list[Finding]

    def summary(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {"ok": self.ok, "findings": [asdict(f) for f in self.findings]}

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return all(f.ok for f in self.findings)


def run(config: CheckConfig, verbose: bool = False) -> CheckResult:
    """Look at everything, whatever is found first."""
    return CheckResult(list(_findings(config, verbose)))


def _findings(config: CheckConfig, verbose: bool) -> Iterator[Finding]:
    yield examine("versions", preflight.versions)
    yield examine("disk", preflight.room)
    places = [*config.sources, config.to or "", config.checkpoint]
    if any("://" in place for place in places):
        yield examine("environment", preflight.endpoint)
    if config.sources:
        yield examine("source", lambda: preflight.source(config.sources))
    if config.to is not None:
        root = config.to
        table = examine("target", lambda: preflight.target(root))
        yield table
        if table.ok:
            yield examine("writing", lambda: try_writing(root))
    found: list[Annotator] = []

    def checkpoint() -> str:
        annotator = annotator_of(config.checkpoint, config.entity_types, config.serving)
        found.append(annotator)
        return preflight.checkpoint(annotator)

    loaded = examine("checkpoint", checkpoint)
    yield loaded

    def engines() -> str:
        with connected(verbose):
            return preflight.engines(config, found[0])

    if loaded.ok:
        yield examine("engines", engines)


def describe(result: CheckResult) -> str:
    """A line for each finding."""
    width = max(len(f.what) for f in result.findings)
    return "\n".join(
        f"{'ok ' if f.ok else 'NOT'}  {f.what:<{width}}  {f.said}" for f in result.findings
    )


__all__ = ["CheckResult", "describe", "run"]
