"""Seeds that do not hold yet, with the check and what is known of the cause; tests leave them out, long runs do not."""

OPEN: dict[int, tuple[str, str]] = {}
