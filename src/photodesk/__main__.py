"""`python -m photodesk`."""

from photodesk.cli import main

if __name__ == "__main__":
    main()
