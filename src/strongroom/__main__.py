"""`python -m strongroom` is `strongroom`."""

from strongroom.cli.main import run

if __name__ == "__main__":
    run()
