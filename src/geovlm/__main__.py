"""`python -m geovlm` is the command `geovlm`."""

from geovlm.cli import main

if __name__ == "__main__":
    main()
