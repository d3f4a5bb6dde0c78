"""Reading the bit strings of H.264 and H.265 headers (ITU-T H.264 and H.265, sections 7.2 and 9.1/9.2)."""

_LONGEST_GOLOMB_PREFIX = 32  # a longer one states a number that no field of the standards may hold


class BitsExhaustedError(Exception):
    """A field lies behind the end of the data, or is coded as no field can be."""


class Bits:
    """A cursor over the bits of a NAL unit's payload, most significant first.

    What is read is never more than what is there: a field that would lie behind the end raises BitsExhaustedError.
    """

    def __init__(self, coded: bytes) -> None:
        """`coded` may hold emulation prevention bytes, which are taken out; each instance costs its length in work."""
        plain = coded.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(plain, "big")
        self._left = len(plain) * 8

    def take(self, count: int) -> int:
        """The next `count` bits as an unsigned number: u(n)."""
        if count > self._left:
            raise BitsExhaustedError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """The next bit: u(1)."""
        return self.take(1) == 1

    def unsigned(self) -> int:
        """The next number in exponential Golomb code: ue(v)."""
        rest = self._value & (1 << self._left) - 1
        zeros = self._left - rest.bit_length()
        if zeros > _LONGEST_GOLOMB_PREFIX or 2 * zeros + 1 > self._left:
            raise BitsExhaustedError
        self._left -= zeros
        return self.take(zeros + 1) - 1

    def signed(self) -> int:
        """The next number in signed exponential Golomb code: se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)
