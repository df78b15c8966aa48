"""One HTML file that holds everything: no script, no network, readable on a phone."""

from rankseg.evaluation.report.write import write_report

__all__ = ["write_report"]
