"""H.264 headers with any content, written by the standard (section 7.3.2.1.1), to be read back."""

from dataclasses import dataclass

HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


def u(value: int, count: int) -> str:
    return f"{value:0{count}b}" if count else ""


def ue(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def se(value: int) -> str:
    return ue(2 * value - 1 if value > 0 else -2 * value)


def nal(header: bytes, bits: str) -> bytes:
    """A NAL unit with its stop bit and emulation prevention."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    plain = int(bits, 2).to_bytes(len(bits) // 8, "big")
    coded, zeros = bytearray(header), 0
    for byte in plain:
        if zeros >= 2 and byte <= 3:
            coded.append(3)
            zeros = 0
        coded.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(coded)


@dataclass(frozen=True)
class H264Sps:
    profile: int = 77
    number: int = 0
    scaling_lists: list[int | None] | None = None  # the one delta of each, None where absent
    frame_num_bits: int = 4
    order_type: int = 2
    order_cycle: tuple[int, ...] | list[int] = ()
    width_in_blocks: int = 20
    height_in_map_units: int = 12
    frames_only: bool = True
    crop: tuple[int, ...] | None = None  # left, right, top, bottom in crop units

    @property
    def width(self) -> int:
        left, right, _, _ = self.crop or (0, 0, 0, 0)
        return self.width_in_blocks * 16 - 2 * (left + right)

    @property
    def height(self) -> int:
        _, _, top, bottom = self.crop or (0, 0, 0, 0)
        fields = 1 if self.frames_only else 2
        return (self.height_in_map_units * 16 - 2 * (top + bottom)) * fields


def written(sps: H264Sps) -> bytes:
    bits = u(sps.profile, 8) + u(0, 8) + u(40, 8) + ue(sps.number)
    if sps.profile in HIGH_PROFILES:
        bits += ue(1) + ue(0) + ue(0) + u(0, 1) + u(sps.scaling_lists is not None, 1)
        for index, delta in enumerate(sps.scaling_lists or ()):
            bits += u(delta is not None, 1) + (
                _scaling_list(delta, 16 if index < 6 else 64) if delta is not None else ""
            )
    bits += ue(sps.frame_num_bits - 4) + ue(sps.order_type)
    if sps.order_type == 0:
        bits += ue(4)
    elif sps.order_type == 1:
        bits += u(0, 1) + se(-3) + se(5) + ue(len(sps.order_cycle)) + "".join(map(se, sps.order_cycle))
    bits += ue(1) + u(0, 1) + ue(sps.width_in_blocks - 1) + ue(sps.height_in_map_units - 1)
    bits += u(sps.frames_only, 1) + ("" if sps.frames_only else u(0, 1)) + u(1, 1)
    bits += u(0, 1) if sps.crop is None else u(1, 1) + "".join(map(ue, sps.crop))
    return nal(b"\x67", bits + u(0, 1))


def _scaling_list(delta: int, size: int) -> str:
    """The same delta again and again, until the scale is 0 and the rest follows from it."""
    bits, last = "", 8
    for _ in range(size):
        bits += se(delta)
        last = (last + delta) % 256
        if last == 0:
            break
    return bits


def pps_264(number: int, sequence: int) -> bytes:
    """A picture parameter set of a sequence."""
    return nal(b"\x68", ue(number) + ue(sequence) + u(0, 2) + ue(0) * 3 + u(0, 3) + se(0) * 3 + u(0, 3))


PPS_264 = pps_264(0, 0)


def idr_slice_264(sps: H264Sps, *, field: bool = False, begin: int = 0, kind: int = 7, picture: int = 0) -> bytes:
    """The beginning of a slice, as far as headers are looked at."""
    header = ue(begin) + ue(kind) + ue(picture) + u(0, sps.frame_num_bits)
    return nal(b"\x65", header + u(field, 1) + u(0, 1) * field + ue(0) + u(1, 64))
