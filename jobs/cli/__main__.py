"""``python -m jobs.cli``."""

from jobs.cli.root import main

if __name__ == "__main__":
    main()
