"""The Arrow schema of examples: texts with gold mentions, for tuning and for scoring."""

import pyarrow as pa

SPLITS = ("train", "dev", "test")

QUARANTINE = ".quarantine.jsonl"
"""The end of the name of what an import leaves out, beside its examples."""

GOLD_MENTION = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("text", pa.string()),
        ("entity_type", pa.string()),
    ]
)
"""The span ``[start, end)`` is in code points of the example's text, and ``text`` is the text of
that span."""

EXAMPLES_SCHEMA = pa.schema(
    [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("pmid", pa.int64()),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("form", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("title_length", pa.int32()),
        pa.field("mentions", pa.list_(GOLD_MENTION), nullable=False),
        pa.field("annotated_types", pa.list_(pa.string()), nullable=False),
    ]
)
"""One row is one sentence or one whole citation.

``corpus``, ``document`` and ``part`` together identify it: ``document`` is the corpus's own number
of the text (for files of lines, the line number), ``part`` numbers the examples made from it.
``split`` is one of SPLITS. ``unit`` is ``sentence`` or ``citation``. ``form`` is ``raw`` (text as
published) or ``tokenised`` (tokens separated by spaces: "T - cell"). ``title_length`` is set only
for whole citations. ``mentions`` are ordered by start, then end, then type, and may nest.
``annotated_types`` are the types that the corpus marks exhaustively. Whether the text has mentions
of any other type is not known."""
