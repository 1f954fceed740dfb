"""``python -m medrestore``: the command line, where no ``medrestore`` is on the path."""

from medrestore.cli import main

if __name__ == "__main__":
    main()
