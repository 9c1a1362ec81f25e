"""The Arrow schemas of the stored tables, and their version.

A reader of this version also reads every older one: columns are added, never renamed or retyped.
"""

import pyarrow as pa

SCHEMA_VERSION = 2
"""2: ``metadata_digest``; the tables ``files`` and ``staged``."""

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
"""``[start, end)`` in code points of the citation's text, and ``text`` is what stands there.
``score``: the lowest probability the model gave to a token that opened or closed the mention.
``grade``: ``exact`` or ``repaired``. ``sentence``: index into ``sentences``. ``identifier``:
reserved, null."""

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
there is one, starts one after it. ``metadata_digest`` is that of the columns beside the text that
PubMed revises; null in rows that version 1 wrote. ``status`` is ``ok``, ``empty`` (no text),
``partial`` (some prompts failed) or ``failed``; ``error`` is null unless partial or failed."""

METADATA_COLUMNS = (
    "version", "title_length", "pub_year", "journal", "language", "doi", "publication_types",
    "metadata_digest", "source",
)  # fmt: skip
"""What a record whose text is unchanged may change in its row: no model has seen these."""

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
"""One row is what one fingerprint stands for; ``parts`` is the JSON it was made of."""

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
"""One row is what one file said: ``pmids`` of its citations, and those that it ``deleted``. It
counts once a transaction of ``annotations`` has taken the file in: see engine/tables/ledger.py."""

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
"""One row is one failed prompt, which asked for ``entity_types`` in ``text[start:end]``: null where
a citation could not be made into prompts. ``stage`` is ``prompt``, ``generate`` or ``align``.
``completion`` is what the model wrote, cut off after some thousand code points; null where nothing
came. The citation's row is still the one that it is about if that has the same ``run_id``.
"""

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
"""One row is one decision of a gate: whether the rows of the annotator ``against`` (null: no rows
yet) may be made anew by ``annotator``. ``decision`` is ``accepted`` or ``refused``, with
``reasons``. ``gate`` is the digest of what was asked: the same question is not asked twice.
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
``errors`` counts failed prompts, by stage."""
