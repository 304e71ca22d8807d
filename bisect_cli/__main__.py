"""`python -m bisect_cli` is `maskrcnn-bisect`."""

from bisect_cli.cli import main

if __name__ == "__main__":
    main()
