"""``python -m delira_nca`` is ``delira-nca``."""

from delira_nca.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
