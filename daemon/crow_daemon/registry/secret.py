"""Credentials, wrapped so that they do not end up in a log, a traceback or a status by accident."""

from dataclasses import dataclass


class Secret:
    """A value that shows itself only to a caller of `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Wraps `value`."""
        self._value = value

    def reveal(self) -> str:
        """The value itself; for the wire and the database only."""
        return self._value

    def __repr__(self) -> str:
        """Never the value."""
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Equal when the values are."""
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        """As the value's."""
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a camera asks for; an account without a password has an empty one."""

    username: str
    password: Secret
