"""The Arrow schemas of the stored tables, and their version.

A reader of this version can read all older ones: columns are added, never renamed or retyped.
"""

import pyarrow as pa

SCHEMA_VERSION = 2
"""Version 2 added the column ``metadata_digest`` and the tables ``files`` and ``staged``."""

SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32())])

MENTION = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("text", pa.string()),
        ("entity_type", pa.string()),
        ("score", pa.float32()),
        ("grade", pa.string()),
        ("sentence", pa.int32()),
        ("identifier", pa.string()),
    ]
)
"""The span ``[start, end)`` is in code points of the citation's text, and ``text`` is the text of
that span. ``score``: the lowest probability that the model gave to a token that opened or closed
the mention. ``grade``: ``exact`` or ``repaired``. ``sentence``: index into ``sentences``.
``identifier``: reserved, null."""

ANNOTATIONS_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("version", pa.int16()),
        pa.field("text", pa.string()),
        pa.field("title_length", pa.int32()),
        pa.field("text_digest", pa.binary(16)),  # Delta has one binary type: read back as binary
        pa.field("sentences", pa.list_(SPAN)),
        pa.field("mentions", pa.list_(MENTION)),
        pa.field("status", pa.string()),
        pa.field("error", pa.string()),
        pa.field("annotator", pa.string()),
        pa.field("run_id", pa.string()),
        pa.field("annotated_at", pa.timestamp("us", tz="UTC")),
        pa.field("source", pa.string()),
        pa.field("pub_year", pa.int16()),
        pa.field("journal", pa.string()),
        pa.field("language", pa.string()),
        pa.field("doi", pa.string()),
        pa.field("publication_types", pa.list_(pa.string())),
        pa.field("metadata_digest", pa.int64()),
    ]
)
"""One row is one citation, keyed by ``pmid``. ``title_length`` is in code points: the abstract, if
there is one, starts at ``title_length + 1``. ``metadata_digest`` is a digest of the columns beside
the text that PubMed revises; null in rows that version 1 wrote. ``status`` is ``ok``, ``empty`` (no
text), ``partial`` (some prompts failed) or ``failed``; ``error`` is null unless partial or
failed."""

METADATA_COLUMNS = (
    "version", "title_length", "pub_year", "journal", "language", "doi", "publication_types",
    "metadata_digest", "source",
)  # fmt: skip
"""The columns that a newer record with the same text updates in its row. The model does not see
them, so the row need not be annotated again."""

ANNOTATORS_SCHEMA = pa.schema(
    [
        pa.field("annotator", pa.string(), nullable=False),
        pa.field("checkpoint", pa.string()),
        pa.field("name", pa.string()),
        pa.field("entity_types", pa.list_(pa.string())),
        pa.field("parts", pa.string()),
        pa.field("first_run_id", pa.string()),
        pa.field("first_used_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""One row is one annotator; ``parts`` is the JSON that its fingerprint was made of."""

FILES_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("md5", pa.string(), nullable=False),
        pa.field("run_id", pa.string()),
        pa.field("citations", pa.int64()),
        pa.field("pmids", pa.list_(pa.int64())),
        pa.field("deleted", pa.list_(pa.int64())),
    ]
)
"""One row is one source file: the ``pmids`` of its citations, and the PMIDs that it ``deleted``.
The row counts only once a transaction of ``annotations`` has taken the file in: see
engine/tables/ledger.py."""

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("annotator", pa.string()),
        pa.field("annotated_at", pa.timestamp("us", tz="UTC")),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("entity_types", pa.list_(pa.string())),
        pa.field("completion", pa.string()),
    ]
)
"""One row is one failed prompt, which asked for ``entity_types`` in ``text[start:end]``; these are
null if no prompt could be made of the citation. ``stage`` is ``prompt``, ``generate`` or ``align``.
``completion`` is what the model wrote, cut off after some thousand code points; null if there is
none. The failure is that of the citation's current row if both have the same ``run_id``."""

ROLLOUTS_SCHEMA = pa.schema(
    [
        pa.field("annotator", pa.string(), nullable=False),
        pa.field("against", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("decided_at", pa.timestamp("us", tz="UTC")),
        pa.field("run_id", pa.string()),
        pa.field("gate", pa.string()),
        pa.field("reasons", pa.list_(pa.string())),
        pa.field("report", pa.string()),
    ]
)
"""One row is one decision of the gate: whether ``annotator`` may replace the rows of the annotator
``against`` (null: the table had no rows). ``decision`` is ``accepted`` or ``refused``, with
``reasons``. ``gate`` is the digest of the question, so that the same one is not asked twice.
``report`` is the JSON of what was measured."""

_COUNTS = ("read", "annotated", "settled", "revised", "empty", "partial", "failed", "deleted",
           "rejected", "damaged", "mentions", "prompts", "prompt_tokens",
           "completion_tokens")  # fmt: skip

RUNS_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("job", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("annotator", pa.string()),
        pa.field("started_at", pa.timestamp("us", tz="UTC")),
        pa.field("seconds", pa.float64()),
        pa.field("engine_start_seconds", pa.float64()),
        pa.field("engine_busy_share", pa.float64()),
        *(pa.field(name, pa.int64()) for name in _COUNTS),
        pa.field("unplaced", pa.map_(pa.string(), pa.int64())),
        pa.field(
            "unplaced_samples",
            pa.list_(
                pa.struct([("reason", pa.string()), ("pmid", pa.int64()), ("text", pa.string())])
            ),
        ),
        pa.field("errors", pa.map_(pa.string(), pa.int64())),
        pa.field("citations_by_engine", pa.map_(pa.string(), pa.int64())),
        pa.field("versions", pa.map_(pa.string(), pa.string())),
        pa.field(
            "files",
            pa.list_(
                pa.struct(
                    [
                        ("source", pa.string()),
                        ("citations", pa.int64()),
                        ("rejected", pa.int64()),
                        ("deleted", pa.int64()),
                        ("damage", pa.string()),
                        ("md5", pa.string()),
                    ]
                )
            ),
        ),
    ]
)
"""One row is one run. ``outcome``: ``done``, ``interrupted`` or ``failed``. ``unplaced`` counts
marks that had no place in the text, by reason, and ``unplaced_samples`` holds some of them;
``errors`` counts citations with a failed prompt, by the stage of the first failure."""
