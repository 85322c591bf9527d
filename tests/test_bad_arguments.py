"""Every name of the reference's API, given what it cannot take: an error of ours, in words, and no crash."""

from __future__ import annotations

import re
import warnings

import pytest

import qcore
from tests.bad_arguments import NOTHING_TO_REFUSE, TABLE
from tests.bad_arguments.words import WORDS
from tests.test_api_surface import NAMES, resolve

ROWS = {
    (home, name): [line.strip() for line in lines.splitlines() if line.strip()]
    for home, names in TABLE.items()
    for each, lines in names.items()
    for name in each.split()
}


def test_every_name_has_rows_or_a_reason_for_none():
    without = {
        (home, name)
        for reasons in NOTHING_TO_REFUSE.values()
        for home, name in NAMES
        if re.fullmatch(reasons.get(home, "-"), name)
    }
    assert not without & set(ROWS)
    assert without | set(ROWS) == set(NAMES)


@pytest.mark.parametrize(("home", "name"), ROWS)
def test_is_refused_in_words(home, name):
    rank = int(found[0]) if (found := re.findall(r"\d", name)) else 0
    words = {**WORDS, "it": resolve(home, name), "name": name, "rank": rank}
    wrong = []
    for expression in ROWS[home, name]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                result = eval(expression, words)
        except qcore.QcoreError as error:
            if len(str(error)) < 20:
                wrong.append(f"{expression}: only says {error}")
        except Exception as error:
            wrong.append(f"{expression}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{expression}: gives {result!r}"[:200])
    assert not wrong, "\n" + "\n".join(wrong)
