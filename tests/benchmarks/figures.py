"""How benchmarks print their figures."""


def shown(figures: dict) -> str:
    """Return figures on one line."""
    return ", ".join(
        f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value:,}"
        for key, value in figures.items()
    )
