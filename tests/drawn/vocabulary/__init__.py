"""What is drawn: functions that draw one operation each, and how often."""

from __future__ import annotations

from tests.drawn.vocabulary import functions, layers, moves, sequences, structure

OPERATIONS = {
    **layers.OPERATIONS, **sequences.OPERATIONS, **functions.OPERATIONS, **moves.OPERATIONS, **structure.OPERATIONS
}  # fmt: skip
CHOICES = list(OPERATIONS)
WEIGHTS = list(OPERATIONS.values())
