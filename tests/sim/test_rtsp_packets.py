"""Promise: each fault of `Faults` does to the packets what it says, and nothing else is done to them."""

import asyncio
import itertools
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtsp_client import Packet, connected

from crow_sim.rtsp import Faults, RtspServer, SeenRequest
from crow_sim.rtsp.media import RTP_CLOCK_HZ, load_media
from crow_sim.rtsp.packing import MAX_PAYLOAD_BYTES, h264_payloads, h265_payloads

FPS = 100  # of the clips in `streams`
TICK = RTP_CLOCK_HZ // FPS


def steps(values: list[int], bits: int) -> list[int]:
    """Differences between neighbours on a counter of so many bits, as signed numbers."""
    half = 1 << (bits - 1)
    return [(late - early + half) % (1 << bits) - half for early, late in itertools.pairwise(values)]


def timestamps_of_pictures(packets: list[Packet]) -> list[int]:
    return [timestamp for timestamp, _ in itertools.groupby(packet.timestamp for packet in packets)]


async def received(path: Path, faults: Faults, pictures: int) -> list[Packet]:
    async with RtspServer({"cam": path}, faults=faults) as server, connected(server) as client:
        await client.play()
        return await client.receive(pictures)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_without_faults_every_packet_of_the_file_arrives_in_order(streams: dict[str, Path], codec: str) -> None:
    units = load_media(streams[codec]).units
    packets = await received(streams[codec], Faults(), len(units))
    assert [packet.payload for packet in packets] == [payload for unit in units for payload in unit.payloads]
    assert set(steps([packet.sequence for packet in packets], 16)) == {1}


@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_timestamps_advance_by_one_picture_even_over_the_seam_of_the_loop(
    streams: dict[str, Path], codec: str
) -> None:
    packets = await received(streams[codec], Faults(), 70)  # of 30 in a loop
    between = steps(timestamps_of_pictures(packets), 32)
    assert len(between) == 69
    assert all(abs(step - TICK) <= 1 for step in between)


async def test_clients_may_join_anywhere_and_then_see_the_whole_clip(streams: dict[str, Path]) -> None:
    units = [unit.payloads for unit in load_media(streams["h264"]).units]
    began_at = set()
    async with RtspServer({"cam": streams["h264"]}, joined_anywhere=True) as server:
        for _ in range(8):
            async with connected(server) as client:
                await client.play()
                packets = await client.receive(len(units) + 5)
            groups = itertools.groupby(packets, lambda packet: packet.timestamp)
            pictures = [tuple(packet.payload for packet in group) for _, group in groups]
            first = units.index(pictures[0])
            assert pictures == [units[(first + number) % len(units)] for number in range(len(pictures))]
            assert all(abs(step - TICK) <= 1 for step in steps(timestamps_of_pictures(packets), 32))
            began_at.add(first)
    assert len(began_at) > 1


async def test_play_says_with_which_packet_the_stream_begins(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}) as server, connected(server) as client:
        info = (await client.play()).headers["rtp-info"]
        first, *_ = await client.receive(1)
        assert info == f"url={client.url}/track1;seq={first.sequence};rtptime={first.timestamp}"


async def test_a_sender_report_ties_timestamps_to_the_wall_clock(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}) as server, connected(server) as client:
        await client.play()
        packets = await client.receive(215)  # reports come every 2 s
        now_s = time.time()
    first, second = client.reports
    assert first.timestamp == packets[0].timestamp
    assert (first.packets, first.octets) == (0, 0)
    sent = [packet for packet in packets if steps([packet.timestamp, second.timestamp], 32)[0] > 0]
    assert (second.packets, second.octets) == (len(sent), sum(len(packet.payload) for packet in sent))
    stream_s = steps([first.timestamp, second.timestamp], 32)[0] / RTP_CLOCK_HZ
    assert second.wall_clock_s - first.wall_clock_s == pytest.approx(stream_s, abs=0.25)
    newest_s = steps([second.timestamp, packets[-1].timestamp], 32)[0] / RTP_CLOCK_HZ
    assert second.wall_clock_s + newest_s == pytest.approx(now_s, abs=0.5)


async def test_dropped_packets_are_missing_and_leave_gaps_in_the_sequence(streams: dict[str, Path]) -> None:
    packets = await received(streams["h264"], Faults(drop_share=0.3), 60)
    between = steps([packet.sequence for packet in packets], 16)
    assert min(between) == 1
    lost = sum(step - 1 for step in between)
    assert 0.15 < lost / (lost + len(packets)) < 0.45


async def test_the_same_seed_drops_the_same_packets(streams: dict[str, Path]) -> None:
    faults = Faults(drop_share=0.3, seed=5)
    runs = [await received(streams["h264"], faults, 20) for _ in range(2)]
    one, other = ([packet.payload for packet in run] for run in runs)
    assert one == other
    assert one != [packet.payload for packet in await received(streams["h264"], Faults(drop_share=0.3, seed=6), 20)]


async def test_corrupt_packets_differ_in_one_byte_behind_the_headers(streams: dict[str, Path]) -> None:
    sent = [payload for unit in load_media(streams["h264"]).units for payload in unit.payloads]
    packets = await received(streams["h264"], Faults(corrupt_share=0.5), 30)
    assert len(packets) == len(sent)
    different = 0
    for payload, packet in zip(sent, packets, strict=True):
        assert len(packet.payload) == len(payload)
        where = [at for at, (one, other) in enumerate(zip(payload, packet.payload, strict=True)) if one != other]
        assert len(where) <= 1
        assert all(at >= 40 for at in where)
        different += len(where)
    assert 0.2 < different / sum(len(payload) > 40 for payload in sent) < 0.8


async def test_damage_may_be_a_run_of_bytes(streams: dict[str, Path]) -> None:
    sent = [payload for unit in load_media(streams["h264"]).units for payload in unit.payloads]
    packets = await received(streams["h264"], Faults(corrupt_share=1.0, corrupt_bytes=30), 30)
    for payload, packet in zip(sent, packets, strict=True):
        where = [at for at, (one, other) in enumerate(zip(payload, packet.payload, strict=True)) if one != other]
        assert len(where) == (0 if len(payload) <= 40 else min(30, len(payload) - where[0]))
        assert not where or where == list(range(where[0], where[-1] + 1))


async def test_a_stall_sends_nothing_more_but_keeps_the_connection(streams: dict[str, Path]) -> None:
    async with (
        RtspServer({"cam": streams["h264"]}, faults=Faults(stall_after_s=0.1)) as server,
        connected(server) as client,
    ):
        await client.play()
        await client.receive(10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.receive(1)
        assert (await client.ask("GET_PARAMETER")).status == 200
        assert server.players("cam") == 1


async def test_close_ends_the_stream_with_an_orderly_end(streams: dict[str, Path]) -> None:
    async with (
        RtspServer({"cam": streams["h264"]}, faults=Faults(close_after_s=0.1)) as server,
        connected(server) as client,
    ):
        await client.play()
        await client.drain()
        assert client.reader.at_eof()
        assert sum(packet.ends_picture for packet in client.packets) == 10


async def test_reset_ends_the_stream_with_a_reset(streams: dict[str, Path]) -> None:
    async with (
        RtspServer({"cam": streams["h264"]}, faults=Faults(reset_after_s=0.1)) as server,
        connected(server) as client,
    ):
        await client.play()
        with pytest.raises(ConnectionResetError):
            await client.drain()
        assert client.packets


async def test_timestamps_jump_back_once(streams: dict[str, Path]) -> None:
    packets = await received(streams["h264"], Faults(back_after_s=0.1, back_by_s=4.0), 40)
    between = steps(timestamps_of_pictures(packets), 32)
    jumps = [(number, step) for number, step in enumerate(between) if step < 0]
    assert jumps == [(9, pytest.approx(TICK - 4 * RTP_CLOCK_HZ, abs=2))]


async def test_timestamps_and_sequence_numbers_wrap_when_asked_to(streams: dict[str, Path]) -> None:
    packets = await received(streams["h264"], Faults(wrap_after_s=0.2), 130)
    timestamps, sequences = timestamps_of_pictures(packets), [packet.sequence for packet in packets]
    assert timestamps[0] > timestamps[-1]
    assert all(abs(step - TICK) <= 1 for step in steps(timestamps, 32))
    assert (sequences[0], sequences[100]) == (65436, 0)
    assert set(steps(sequences, 16)) == {1}


async def test_a_restarted_encoder_begins_anew_under_another_source(streams: dict[str, Path]) -> None:
    packets = await received(streams["h264"], Faults(restart_after_s=0.1), 40)
    sources = [ssrc for ssrc, _ in itertools.groupby(packet.ssrc for packet in packets)]
    assert len(sources) == 2
    before, after = ([packet for packet in packets if packet.ssrc == ssrc] for ssrc in sources)
    assert len(timestamps_of_pictures(before)) == 10
    assert set(steps([packet.sequence for packet in after], 16)) == {1}


async def test_a_frozen_camera_sends_its_last_key_frame_over_and_over(streams: dict[str, Path]) -> None:
    units = load_media(streams["h264"]).units  # a key frame every 10 pictures
    packets = await received(streams["h264"], Faults(freeze_after_s=0.15), 40)
    pictures = [
        tuple(packet.payload for packet in group) for _, group in itertools.groupby(packets, lambda p: p.timestamp)
    ]
    assert pictures[:15] == [unit.payloads for unit in units[:15]]
    assert set(pictures[15:]) == {units[10].payloads}
    assert all(abs(step - TICK) <= 1 for step in steps(timestamps_of_pictures(packets), 32))


async def test_garbage_comes_once_between_two_packets(streams: dict[str, Path]) -> None:
    async with (
        RtspServer({"cam": streams["h264"]}, faults=Faults(garbage_after_s=0.05, seed=3)) as server,
        connected(server) as client,
    ):
        await client.play()
        await client.receive(4)
        everything = b""
        while len(everything) < 10_000:
            everything += await client.reader.read(10_000)
    assert everything.count(np.random.default_rng(3).bytes(1000)) == 1


async def test_the_camera_s_clock_is_ahead_and_jumps_as_told(streams: dict[str, Path]) -> None:
    faults = Faults(report_every_s=0.1, clock_ahead_s=30.0, clock_jump_after_s=0.25, clock_jump_by_s=-100.0)
    async with RtspServer({"cam": streams["h264"]}, faults=faults) as server, connected(server) as client:
        await client.play()
        await client.receive(55)
    ahead_s = [report.wall_clock_s - time.time() for report in client.reports]
    assert [round(seconds / 10) for seconds in ahead_s] == [3, 3, 3, -7, -7, -7]


async def test_a_camera_without_reports_sends_none(streams: dict[str, Path]) -> None:
    served = RtspServer({"cam": streams["h264"]}, faults=Faults(reports=False))
    async with served as server, connected(server) as client:
        await client.play()
        await client.receive(30)
    assert client.reports == []


async def test_after_the_switch_everybody_gets_the_other_file(streams: dict[str, Path]) -> None:
    faults = Faults(switch_after_s=0.1, switch_to=str(streams["larger"]))
    larger = [payload for unit in load_media(streams["larger"]).units for payload in unit.payloads]
    async with (
        RtspServer({"cam": streams["h264"]}, faults=faults) as server,
        connected(server) as one,
        connected(server) as other,
    ):
        before = (await one.ask("DESCRIBE")).body
        await one.play()
        await other.play()
        for client in (one, other):
            packets = await client.receive(35)
            assert all(abs(step - TICK) <= 1 for step in steps(timestamps_of_pictures(packets), 32))
            assert packets[-1].payload in larger
        async with connected(server) as later:
            assert (await later.ask("DESCRIBE")).body != before


async def test_faults_and_media_change_under_a_running_stream(streams: dict[str, Path]) -> None:
    larger = [payload for unit in load_media(streams["larger"]).units for payload in unit.payloads]
    async with RtspServer({"cam": streams["h264"]}) as server, connected(server) as client:
        await client.play()
        await client.receive(5)
        server.set_media("cam", streams["larger"])
        packets = await client.receive(10)
        assert packets[-1].payload in larger
        server.set_faults("cam", Faults(close_after_s=0.0))
        await client.drain()
        assert client.reader.at_eof()


async def test_a_silent_camera_accepts_and_never_answers(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}, faults=Faults(silent=True)) as server, connected(server) as client:
        for method in ("OPTIONS", "DESCRIBE"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await client.ask(method)
        assert [request.method for request in server.requests] == ["OPTIONS", "DESCRIBE"]


async def test_a_redirect_names_the_other_address(streams: dict[str, Path]) -> None:
    target = "rtsp://192.0.2.1/elsewhere"
    async with (
        RtspServer({"cam": streams["h264"]}, faults=Faults(redirect_to=target)) as server,
        connected(server) as client,
    ):
        answer = await client.ask("DESCRIBE")
        assert (answer.status, answer.headers["location"]) == (302, target)


async def test_endless_headers_never_end_the_header(streams: dict[str, Path]) -> None:
    faults = Faults(endless_headers=True)
    async with RtspServer({"cam": streams["h264"]}, faults=faults) as server, connected(server) as client:
        client.writer.write(f"DESCRIBE {client.url} RTSP/1.0\r\nCSeq: 7\r\n\r\n".encode())
        head = await client.reader.readexactly(100_000)
        assert head.startswith(b"RTSP/1.0 200 OK\r\n")
        assert b"\r\n\r\n" not in head


async def test_requests_are_kept_with_whether_they_carried_credentials(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}) as server, connected(server) as client:
        await client.ask("OPTIONS")
        await client.ask("DESCRIBE", Authorization="Basic eDp5")
        assert server.requests == [
            SeenRequest("OPTIONS", client.url, with_credentials=False),
            SeenRequest("DESCRIBE", client.url, with_credentials=True),
        ]


async def test_what_is_asked_out_of_turn_is_refused_and_the_connection_lives_on(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}) as server, connected(server) as client:
        assert (await client.ask("PLAY")).status == 455
        assert (await client.ask("DESCRIBE", server.url("elsewhere"))).status == 404
        assert (await client.ask("RECORD")).status == 405
        assert (await client.ask("SETUP", f"{client.url}/track1", Transport="RTP/AVP;multicast")).status == 461
        assert "DESCRIBE" in (await client.ask("OPTIONS")).headers["public"]
        assert (await client.ask("TEARDOWN")).status == 200
        assert await client.reader.read() == b""


@pytest.mark.parametrize("rubbish", [b"\r\n\r\n\0\xff\xfe garbage\r\n\r\n", b"x" * 200_000, b"$\0\xff\xff"])
async def test_a_client_that_speaks_something_else_disturbs_nobody(streams: dict[str, Path], rubbish: bytes) -> None:
    async with RtspServer({"cam": streams["h264"]}) as server, connected(server) as client:
        async with connected(server) as other:
            other.writer.write(rubbish)
            other.writer.write_eof()
            with suppress(ConnectionError):
                await other.reader.read()
        await client.play()
        assert await client.receive(3)


# By size, since a strategy of bytes hardly ever draws more than a packet holds; at its edges, fragments begin.
BODIES = st.one_of(st.integers(0, 5000), st.integers(MAX_PAYLOAD_BYTES - 4, MAX_PAYLOAD_BYTES + 4)).map(
    lambda size: bytes(number % 251 for number in range(size))
)


@given(body=BODIES, header=st.sampled_from([0x65, 0x41, 0x67]))
def test_h264_fragments_fit_a_packet_and_join_to_the_unit(body: bytes, header: int) -> None:
    unit = bytes([header]) + body
    payloads = h264_payloads(unit)
    assert all(len(payload) <= MAX_PAYLOAD_BYTES for payload in payloads)
    if len(payloads) > 1:
        first = payloads[0]
        marks = [payload[1] & 0xC0 for payload in payloads]
        assert marks == [0x80, *[0] * (len(payloads) - 2), 0x40]
        payloads = [bytes([(first[0] & 0xE0) | (first[1] & 31)]), *(payload[2:] for payload in payloads)]
    assert b"".join(payloads) == unit


@given(body=BODIES, header=st.sampled_from([(0x26, 1), (0x02, 1), (0x42, 1)]))
def test_h265_fragments_fit_a_packet_and_join_to_the_unit(body: bytes, header: tuple[int, int]) -> None:
    unit = bytes(header) + body
    payloads = h265_payloads(unit)
    assert all(len(payload) <= MAX_PAYLOAD_BYTES for payload in payloads)
    if len(payloads) > 1:
        first = payloads[0]
        marks = [payload[2] & 0xC0 for payload in payloads]
        assert marks == [0x80, *[0] * (len(payloads) - 2), 0x40]
        joined = bytes([(first[0] & 0x81) | ((first[2] & 63) << 1), first[1]])
        payloads = [joined, *(payload[3:] for payload in payloads)]
    assert b"".join(payloads) == unit
