"""report.csv: one line a run."""

import csv
import io


def runs_csv(rows: list[dict]) -> str:
    """The rows of `report()["runs"]` under their keys; None is an empty field, losses may be nan or inf."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
