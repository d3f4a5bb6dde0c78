"""What the payload of an RTP packet is, by its first bytes: RFC 6184 (H.264) and RFC 7798 (H.265), section 4 each."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from crow_shared.frame import Encoding
from crow_shared.h26x import KEYFRAME_SLICES, PARAMETER_SETS


class Look(IntEnum):
    """What is to be done with a packet."""

    SKIP = 0
    TAKE = 1
    FRAGMENT = 2  # the fragment's header says which of the two


@dataclass(frozen=True)
class Payloads:
    """The payloads of one codec. The header of a fragment lies behind a NAL unit header of `header_bytes`."""

    encoding: Encoding
    header_bytes: int  # of a NAL unit
    aggregate: int
    fragment: int
    fragment_kind: int  # the bits of a fragment's header that are the type of its NAL unit
    sei: int
    interleaved: frozenset[int]  # kinds whose NAL units come in another order than that of decoding, or extended
    alien: frozenset[int]  # kinds that no camera sends: a stream of another codec has them in every picture

    @cached_property
    def kinds(self) -> bytes:
        """The type of a payload or NAL unit, by its first byte."""
        h264 = self.encoding is Encoding.H264
        return bytes(byte & 31 if h264 else byte >> 1 & 63 for byte in range(256))

    def first_bytes(self, *, with_sei: bool) -> bytes:
        """What to do (`Look`) with a packet whose payload begins with the byte that is the index.

        `with_sei`: supplemental enhancement information is of interest, too.
        """
        taken = {*self._kept, *self.interleaved, *self.alien, self.aggregate} | ({self.sei} if with_sei else set())
        looks = (
            Look.FRAGMENT if kind == self.fragment else Look.TAKE if kind in taken else Look.SKIP for kind in self.kinds
        )
        return bytes(looks)

    def fragment_bytes(self) -> bytes:
        """What to do with a fragment whose header is the index."""
        taken = KEYFRAME_SLICES[self.encoding]
        return bytes(Look.TAKE if byte & self.fragment_kind in taken else Look.SKIP for byte in range(256))

    @property
    def _kept(self) -> frozenset[int]:
        return KEYFRAME_SLICES[self.encoding] | PARAMETER_SETS[self.encoding]


PAYLOADS = {
    Encoding.H264: Payloads(
        Encoding.H264,
        header_bytes=1,
        aggregate=24,  # STAP-A
        fragment=28,  # FU-A
        fragment_kind=31,
        sei=6,
        interleaved=frozenset({25, 26, 27, 29}),  # STAP-B, MTAP16, MTAP24, FU-B
        alien=frozenset({0, 2, 3, 4, 22, 23, 30, 31}),
    ),
    Encoding.H265: Payloads(
        Encoding.H265,
        header_bytes=2,
        aggregate=48,  # AP
        fragment=49,  # FU
        fragment_kind=63,
        sei=39,
        interleaved=frozenset({50}),  # PACI
        alien=frozenset({*range(10, 16), *range(22, 32), *range(41, 48), *range(51, 64)}),
    ),
}
