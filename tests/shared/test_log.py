"""No secret gets through the log."""

import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from crow_shared import log
from crow_shared.log import redacted

CANARY = "s3cr3t-canary"


def test_credentials_are_blanked_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        log.configure("debug", json=True)
        logger = structlog.get_logger("t")
        url = f"rtsp://cam:{CANARY}@10.0.0.1/stream"
        logger.info("opened", url=url, password=CANARY, nested={"auth_token": CANARY, "urls": [url]})
        logging.getLogger("library").warning("failed to open %s", url)
        try:
            raise RuntimeError(f"cannot open {url}")
        except RuntimeError:
            logger.exception("failed")
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(json.loads(line)["level"] for line in lines)
    assert CANARY not in "\n".join(lines)
    assert "10.0.0.1/stream" in lines[0]


@given(st.text(alphabet=st.characters(exclude_characters=" \t\r\n/\\", exclude_categories=["C", "Z"]), min_size=1))
def test_any_password_in_a_url_is_blanked(password: str) -> None:
    assert redacted(f"rtsp://user:{password}@host/path") == "rtsp://***@host/path"


def test_text_without_credentials_stays_as_it_is() -> None:
    text = "see https://example.org/a?b=c and mail me@example.org"
    assert redacted(text) == text
