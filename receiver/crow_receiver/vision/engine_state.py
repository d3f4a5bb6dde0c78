"""How an engine is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineState:
    """`trouble` is None while it serves; that began `since_us`. `passed_over` while other engines stand in for it."""

    name: str
    trouble: str | None
    since_us: int
    passed_over: bool
