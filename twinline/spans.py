"""Lengths of time as people say them."""


def span(seconds: float) -> str:
    """A length of time in the unit that reads best."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
