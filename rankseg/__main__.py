"""``python -m rankseg`` is the same as ``rankseg``."""

from rankseg.cli import app

if __name__ == "__main__":
    app(prog_name="rankseg")
