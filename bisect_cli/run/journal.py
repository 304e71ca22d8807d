"""A journal of old verdicts that people kept, as a CSV file: rows of prior evidence (evidence.prior).

Columns `flags` (separated by spaces or +, groups too), `metric` and `verdict`; others, such as a date or a note, are
not read.
"""

import csv
import math
import re

from bisect_cli.errors import UserError, unknown
from bisect_cli.evidence.prior import MOST_ODDS

COLUMNS = ("flags", "metric", "verdict")
VERDICTS = {"fine": -1, "converged": -1, "broken": 1, "diverged": 1}


def read(path, spec):
    """The rows of the journal at `path`, in the names of a Spec, those of the baseline with no flags. Raises UserError,
    with the number of the line, for what it cannot take.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"--journal {path}, line 1: no column {' and no '.join(missing)}; the first line names the "
                    f"columns, {','.join(COLUMNS)} among them."
                )
            return [_row(path, reader.line_num, row, spec) for row in reader]
    except OSError as error:
        raise UserError(f"--journal {path} cannot be read ({error.strerror}): name a CSV file.") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"--journal {path} is no CSV file in UTF-8: save it as one.") from None


def _row(path, line, row, spec):
    flags, metric, verdict = (row[column] for column in COLUMNS)
    if metric is None or verdict is None or None in row:
        raise UserError(f"--journal {path}, line {line}: it has other columns than line 1.")
    try:
        names = ",".join(re.split(r"[\s+]+", flags.strip()))
        subset = spec.parse_flags(names) if names else ()
        metric = spec.metric(metric.strip()).name
        if verdict.strip().lower() not in VERDICTS:
            raise unknown("verdict", verdict.strip(), VERDICTS)
    except UserError as error:
        raise UserError(f"--journal {path}, line {line}: {error}") from None
    return [list(subset), metric, VERDICTS[verdict.strip().lower()] * math.log(MOST_ODDS)]
