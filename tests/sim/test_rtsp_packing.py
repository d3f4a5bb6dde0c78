"""Promise: each way of packing is what the standards say, and libav plays it as it plays the plain one."""

import base64
import re
from pathlib import Path

import av
import numpy as np
import pytest
from rtsp_client import connected

from crow_sim.encode import Codec, encode
from crow_sim.rtsp import Packing, RtspServer, ThreadedRtspServer
from crow_sim.rtsp.media import load_media
from crow_sim.rtsp.packing import MAX_PAYLOAD_BYTES
from crow_sim.shop.plan import crossing_scene
from crow_sim.shop.render import Renderer

PACKINGS = {
    "aggregate": Packing(aggregate=True),
    "header extension": Packing(header_extension=True),
    "contributing sources": Packing(csrcs=3),
    "padding": Packing(padding_bytes=7),
    "no marker": Packing(marker=False),
    "sets in the stream": Packing(parameter_sets="stream"),
    "sets in the description": Packing(parameter_sets="description"),
    "audio": Packing(audio=True),
    "all": Packing(aggregate=True, header_extension=True, csrcs=15, padding_bytes=255, audio=True),
}


def shown(path: Path, packing: Packing | None = None, count: int = 15) -> list[bytes]:
    """The first pictures as libav decodes them."""
    options = {"rtsp_transport": "tcp", "timeout": "5000000"}
    served = RtspServer({"cam": path}, packing=packing)
    with ThreadedRtspServer(served) as server, av.open(server.url("cam"), options=options) as container:
        frames = container.decode(video=0)
        return [next(frames).to_ndarray().tobytes() for _ in range(count)]


def begins_slice(payload: bytes, codec: Codec) -> bool:
    """Whether it is a coded slice, or the first fragment of one."""
    if codec == "hevc":
        kind, fragment = (payload[0] >> 1) & 63, payload[2]
        return kind < 22 or (kind == 49 and fragment & 0x80 > 0 and fragment & 63 < 22)
    kind, fragment = payload[0] & 31, payload[1]
    return kind in (1, 5) or (kind == 28 and fragment & 0x80 > 0 and fragment & 31 in (1, 5))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_libav_shows_the_same_pictures_however_they_are_packed(streams: dict[str, Path], codec: str) -> None:
    plain = shown(streams[codec])
    for name, packing in PACKINGS.items():
        assert shown(streams[codec], packing) == plain, name


@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_aggregated_units_are_those_of_the_file(streams: dict[str, Path], codec: str) -> None:
    plain = [unit.payloads for unit in load_media(streams[codec]).units]
    served = RtspServer({"cam": streams[codec]}, packing=Packing(aggregate=True))
    async with served as server, connected(server) as client:
        await client.play()
        packets = await client.receive(len(plain))
    header = 2 if codec == "hevc" else 1
    together = 48 << 1 if codec == "hevc" else 24
    mask = 0x7E if codec == "hevc" else 31
    found: list[bytes] = []
    aggregates = 0
    for packet in packets:
        assert len(packet.payload) <= MAX_PAYLOAD_BYTES
        if packet.payload[0] & mask != together:
            found.append(packet.payload)
            continue
        aggregates += 1
        rest = packet.payload[header:]
        while rest:
            size = int.from_bytes(rest[:2], "big")
            found.append(rest[2 : 2 + size])
            rest = rest[2 + size :]
    assert aggregates >= 3  # the parameter sets before each key frame at least
    assert found == [payload for payloads in plain for payload in payloads]


async def test_headers_carry_what_was_asked_for_and_the_payload_stays(streams: dict[str, Path]) -> None:
    packing = Packing(header_extension=True, csrcs=2, padding_bytes=5)
    units = load_media(streams["h264"]).units
    async with RtspServer({"cam": streams["h264"]}, packing=packing) as server, connected(server) as client:
        await client.play()
        packets = await client.receive(len(units))
    assert [packet.payload for packet in packets] == [payload for unit in units for payload in unit.payloads]
    assert {packet.csrcs for packet in packets} == {(1, 2)}
    assert {packet.padding for packet in packets} == {b"\0\0\0\0\x05"}
    assert {packet.extension for packet in packets} == {b"\xbe\xde\0\x02\x13crow\0\0\0"}


async def test_without_markers_no_packet_has_one(streams: dict[str, Path]) -> None:
    served = RtspServer({"cam": streams["h264"]}, packing=Packing(marker=False))
    async with served as server, connected(server) as client:
        await client.play()
        while len(client.packets) < 20:
            await client.receive_packet()
    assert not any(packet.ends_picture for packet in client.packets)


@pytest.mark.parametrize(("codec", "kinds"), [("h264", (7, 8)), ("hevc", (32, 33, 34))])
async def test_parameter_sets_are_told_where_it_says(
    streams: dict[str, Path], codec: str, kinds: tuple[int, ...]
) -> None:
    for place in ("both", "stream", "description"):
        packing = Packing(parameter_sets=place)
        async with RtspServer({"cam": streams[codec]}, packing=packing) as server, connected(server) as client:
            description = (await client.ask("DESCRIBE")).body
            await client.play()
            packets = await client.receive(12)
        told = re.findall(r"sprop-[a-z-]+=([^;\s]+)", description)
        sets = {base64.b64decode(word) for words in told for word in words.split(",")}
        assert len(sets) == (0 if place == "stream" else len(kinds))
        first = {packet.payload[0] >> 1 if codec == "hevc" else packet.payload[0] & 31 for packet in packets}
        assert first.isdisjoint(kinds) == (place == "description")


async def test_audio_is_described_first_and_comes_asked_for_or_not(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}, packing=Packing(audio=True)) as server:
        async with connected(server) as client:
            description = (await client.ask("DESCRIBE")).body
            assert description.index("m=audio") < description.index("m=video")
            await client.play()
            await client.receive(20)
        async with connected(server) as asking:
            channels = "RTP/AVP/TCP;unicast;interleaved=6-7"
            assert (await asking.ask("SETUP", f"{asking.url}/track2", Transport=channels)).status == 200
            await asking.play()
            await asking.receive(20)
    for heard, channel in ((client, 2), (asking, 6)):
        assert len(heard.others) >= 5
        assert {(number, len(packet)) for number, packet in heard.others} == {(channel, 12 + 160)}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_picture_may_be_coded_in_slices(tmp_path: Path, codec: Codec) -> None:
    path = tmp_path / "slices.mp4"
    renderer = Renderer(crossing_scene(), 320, 240)
    encode(path, (renderer.picture(n / 10) for n in range(4)), 10.0, codec, slices=3)
    for unit in load_media(path).units:
        assert sum(begins_slice(payload, codec) for payload in unit.payloads) == 3
    assert len(shown(path, count=4)) == 4


def test_a_clip_of_a_set_rate_has_about_that_rate(tmp_path: Path) -> None:
    path = tmp_path / "rate.mp4"
    noise = np.random.default_rng(1)
    pictures = (noise.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(40))
    encode(path, pictures, 10.0, bits_per_s=400_000)
    assert path.stat().st_size * 8 / 4.0 == pytest.approx(400_000, rel=0.3)
