"""The sound that many cameras send beside their pictures: silence, 50 packets a second."""

import asyncio
import secrets

from crow_sim.rtsp.channel import Channel
from crow_sim.rtsp.media import AUDIO_TYPE
from crow_sim.rtsp.packing import Packer, Packing

_EVERY_S = 0.02
_SAMPLES = 160  # of 8 kHz in so long
_SILENCE = b"\xff" * _SAMPLES  # PCMU (RFC 3551 section 4.5.14)


async def play_silence(channel: Channel, packing: Packing) -> None:
    """Sends until cancelled."""
    packer = Packer(packing, AUDIO_TYPE, secrets.randbits(32))
    number = 0
    while True:
        timestamp = number * _SAMPLES & 0xFFFF_FFFF
        await channel.send([packer.packet(number & 0xFFFF, timestamp, _SILENCE, ends_picture=False)])
        number += 1
        await asyncio.sleep(_EVERY_S)
