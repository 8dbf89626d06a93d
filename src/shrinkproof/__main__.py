"""``python -m shrinkproof``: the same as the command."""

from shrinkproof.cli import main

if __name__ == "__main__":
    main()
