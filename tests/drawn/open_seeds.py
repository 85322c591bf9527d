"""Seeds that do not hold yet, with the check and what is known of the cause; tests leave them out, long runs do not."""

OPEN: dict[int, tuple[str, str]] = {
    20: ("qat", "a bidirectional LSTM with states of 0 and 0.5 is further from the trained model than 8 bits take it"),
    36: ("qat", "the cell state of an LSTM of two layers is further from the trained model than 8 bits take it"),
    63: ("qat", "19.6 dB from the trained model, bound 35.0; the cause is not known"),
    95: ("static", "23.7 dB from float, bound 35.0; the cause is not known"),
}
