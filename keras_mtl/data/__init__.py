"""Data of many tasks: mixtures, samplers, curricula and missing labels."""

__all__: list[str] = []
