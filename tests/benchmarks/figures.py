"""How benchmarks print their figures."""


def shown(figures: dict) -> str:
    """Return figures on one line."""
    forms = {float: ",.4g", int: ","}
    return ", ".join(f"{key} {value:{forms.get(type(value), '')}}" for key, value in figures.items())
