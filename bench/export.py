"""Does a reader that is not ours find the same mentions in what ``pubmark export`` writes?

    .venv/bin/python bench/export.py TABLE

Exports a table of annotations to PubTator and reads it back with bioc, from the registry. Prints
what was compared, and JSON on the last line.
"""

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path

from bioc import pubtator
from deltalake import DeltaTable

from jobs.export import run
from schemas.configs.tables import ExportConfig


def main() -> None:
    """Export, read back, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.pubtator"
        run(ExportConfig(source=options.table, to=str(target), format="pubtator"))
        documents = list(pubtator.load(io.StringIO(target.read_text(encoding="utf-8"))))
    found = {
        (int(d.pmid), a.start, a.end, a.text, a.type) for d in documents for a in d.annotations
    }
    texts = {int(d.pmid): d.text for d in documents}
    rows = DeltaTable(f"{options.table}/annotations").to_pyarrow_table().to_pylist()
    ours = {
        (row["pmid"], m["start"], m["end"], m["text"], m["entity_type"])
        for row in rows
        for m in row["mentions"]
    }
    in_place = sum(texts[pmid][start:end] == text for pmid, start, end, text, _ in found)
    figures = {
        "citations": len(rows), "read_back": len(documents), "mentions": len(ours),
        "mentions_read_back": len(found), "that_differ": len(ours ^ found),
        "standing_where_they_say": in_place,
    }  # fmt: skip
    print(json.dumps(figures))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
