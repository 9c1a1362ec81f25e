# What `make demo` runs: the bundled sample, annotated into the table $1, and three looks at it.
set -e

# Print a command as one would type it, then run it.
run() {
  printf '\n$'
  for word in "$@"; do
    case $word in
      *' '*) printf ' "%s"' "$word" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  printf '\n'
  "$@"
}

run pubmark annotate jobs/sample/pubmed_sample.xml --to "$1"
run pubmark sql "SELECT entity_type, lower(text) AS mention, count(*) AS times FROM mentions
  GROUP BY 1, 2 QUALIFY row_number() OVER (PARTITION BY entity_type ORDER BY times DESC, mention) <= 5
  ORDER BY entity_type, times DESC, mention" --from "$1" --format table
run pubmark show 99000002 --from "$1"

cat <<END

What to try next:
  . .venv/bin/activate
  pubmark annotate FILE.xml.gz --to annotations     your own PubMed files, JSONL or Parquet
  pubmark sql "SELECT * FROM runs" --from $1        how the run went
  pubmark --help

nano, the embedded checkpoint, is small and often wrong: checkpoints/nano/README.md says how often.
END
