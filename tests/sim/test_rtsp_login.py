"""Promise: logins are those of the RFCs, a nonce goes stale as asked, and who keeps nothing alive is hung up."""

import asyncio
import hashlib
import re
from pathlib import Path

import pytest
from rtsp_client import Answer, Client, connected

from crow_sim.rtsp import Faults, RtspServer

USER, PASSWORD = "shop", "p@ss w:rd/%"


def served(streams: dict[str, Path], **options: object) -> RtspServer:
    return RtspServer({"cam": streams["h264"]}, user=USER, password=PASSWORD, **options)  # type: ignore[arg-type]


def login(client: Client, method: str, challenge: str, *, uri: str = "", hashed: str = "md5") -> str:
    """The Authorization header that RFC 2617 and, with qop, RFC 7616 want."""
    fields = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge.partition(" ")[2]))
    uri = uri or client.url

    def h(text: str) -> str:
        return hashlib.new(hashed, text.encode()).hexdigest()

    middle, more = fields["nonce"], ""
    if "qop" in fields:
        middle, more = f"{middle}:00000001:abcd:auth", ', qop=auth, nc=00000001, cnonce="abcd"'
    realm, nonce = fields["realm"], fields["nonce"]
    response = h(f"{h(f'{USER}:{realm}:{PASSWORD}')}:{middle}:{h(f'{method}:{uri}')}")
    return f'Digest username="{USER}", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{response}"{more}'


async def challenged(client: Client) -> str:
    answer = await client.ask("DESCRIBE")
    assert answer.status == 401
    return answer.headers["www-authenticate"]


async def described(client: Client, challenge: str) -> Answer:
    return await client.ask("DESCRIBE", Authorization=login(client, "DESCRIBE", challenge))


async def test_a_nonce_is_good_for_so_many_requests_and_then_called_stale(streams: dict[str, Path]) -> None:
    async with served(streams, nonce_requests=2) as server, connected(server) as client:
        challenge = await challenged(client)
        assert "stale" not in challenge
        assert [(await described(client, challenge)).status for _ in range(3)] == [200, 200, 401]
        refused = (await described(client, challenge)).headers["www-authenticate"]
        assert "stale=true" in refused
        assert (await described(client, refused)).status == 200


async def test_a_wrong_password_with_a_stale_nonce_is_no_stale_nonce(streams: dict[str, Path]) -> None:
    async with served(streams, nonce_requests=1) as server, connected(server) as client:
        challenge = await challenged(client)
        wrong = login(client, "OPTIONS", challenge)  # the answer for another method
        assert (await described(client, challenge)).status == 200
        refused = await client.ask("DESCRIBE", Authorization=wrong)
        assert (refused.status, "stale" in refused.headers["www-authenticate"]) == (401, False)


async def test_sha_256_wants_qop_and_is_not_answered_by_md5(streams: dict[str, Path]) -> None:
    async with served(streams, auth="digest-sha256") as server, connected(server) as client:
        challenge = await challenged(client)
        assert "SHA-256" in challenge
        by_md5 = login(client, "DESCRIBE", challenge)
        assert (await client.ask("DESCRIBE", Authorization=by_md5)).status == 401
        by_sha = login(client, "DESCRIBE", challenge, hashed="sha256")
        assert (await client.ask("DESCRIBE", Authorization=by_sha)).status == 200
        without_qop = login(client, "DESCRIBE", challenge.replace('qop="auth", ', ""), hashed="sha256")
        assert (await client.ask("DESCRIBE", Authorization=without_qop)).status == 401


async def test_who_plays_and_asks_for_nothing_is_hung_up_when_the_session_ends(streams: dict[str, Path]) -> None:
    async with RtspServer({"cam": streams["h264"]}, session_s=0.4) as server, connected(server) as client:
        await client.play()
        for _ in range(3):
            await asyncio.sleep(0.2)
            assert (await client.ask("GET_PARAMETER")).status == 200
        async with asyncio.timeout(5):
            await client.drain()
        assert client.reader.at_eof()


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP", "PLAY"])
async def test_a_redirect_may_come_late(streams: dict[str, Path], method: str) -> None:
    faults = Faults(redirect_to="rtsp://192.0.2.1/elsewhere", redirect_at=method, redirect_spares=1)  # type: ignore[arg-type]
    async with RtspServer({"cam": streams["h264"]}, faults=faults) as server:
        for expected in (200, 302):
            async with connected(server) as client:
                answers = {"DESCRIBE": await client.ask("DESCRIBE")}
                transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
                answers["SETUP"] = await client.ask("SETUP", f"{client.url}/track1", Transport=transport)
                answers["PLAY"] = await client.ask("PLAY")
                assert answers[method].status == expected
                assert ("location" in answers[method].headers) == (expected == 302)
