"""How much of something a stream may take."""


class Allowance:
    """So much a second; what is not taken is kept, up to `most` (a token bucket)."""

    def __init__(self, per_s: float, most: float, now_s: float) -> None:
        """Nothing is taken yet."""
        self._per_s = per_s
        self._most = self._left = most
        self._since_s = now_s

    def covers(self, amount: float, now_s: float) -> bool:
        """Takes so much; whether it was there."""
        self._left = min(self._most, self._left + (now_s - self._since_s) * self._per_s) - amount
        self._since_s = now_s
        return self._left >= 0
