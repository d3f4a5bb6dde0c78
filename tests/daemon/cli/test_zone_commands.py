"""`crow-daemon camera zone` and `camera mask`."""

import json
from pathlib import Path

import pytest
from camera_shell import Shell

CORNERS = "0.1,0.4 0.55,0.4 0.55,0.95"


@pytest.fixture
def crow(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.ok("add", "till", "--url", "rtsp://192.168.1.64/stream1")
    return shell


def test_zones_are_added_in_shares_or_percent_and_listed(crow: Shell) -> None:
    crow.ok("zone", "add", "till", "Checkout", "--area", CORNERS)
    crow.ok("zone", "add", "till", "Front entrance", "--line", "20%,90% 80%,90.5%")
    zones = json.loads(crow.ok("zone", "list", "till", "--json"))
    assert zones == [
        {"name": "Checkout", "kind": "area", "points": [[0.1, 0.4], [0.55, 0.4], [0.55, 0.95]]},
        {"name": "Front entrance", "kind": "line", "points": [[0.2, 0.9], [0.8, 0.905]]},
    ]
    assert "10%,40% 55%,40% 55%,95%" in crow.ok("zone", "list", "till")
    assert [zone.name for zone in crow.registry().get("till").zones] == ["Checkout", "Front entrance"]


def test_a_zone_is_removed_by_its_name_whatever_its_capitals(crow: Shell) -> None:
    crow.ok("zone", "add", "till", "Checkout", "--area", CORNERS)
    crow.ok("zone", "remove", "till", "checkout")
    assert "no zones yet" in crow.ok("zone", "list", "till")
    unknown = crow("zone", "remove", "till", "Checkout")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "words",
    [
        ("Checkout",),
        ("Checkout", "--area", CORNERS, "--line", "0,0 1,1"),
        ("Checkout", "--area", "0.1,0.4 0.5,0.4"),
        ("Checkout", "--area", "10,40 55,40 55,95"),
        ("Checkout", "--area", "0.1;0.4 1,1 0,1"),
        ("Checkout", "--area", "nan,0 1,1 0,1"),
        ("Checkout", "--line", CORNERS),
        ("a\nb", "--area", CORNERS),
    ],
)
def test_what_is_no_zone_is_refused_and_nothing_is_stored(words: tuple[str, ...], crow: Shell) -> None:
    assert crow("zone", "add", "till", *words).exit_code == 2
    assert json.loads(crow.ok("zone", "list", "till", "--json")) == []


def test_two_zones_of_one_name_are_refused(crow: Shell) -> None:
    crow.ok("zone", "add", "till", "Checkout", "--area", CORNERS)
    assert crow("zone", "add", "till", "CHECKOUT", "--area", CORNERS).exit_code == 2


def test_masks_are_added_listed_and_removed_by_number(crow: Shell) -> None:
    crow.ok("mask", "add", "till", "--area", CORNERS)
    crow.ok("mask", "add", "till", "--area", "0,0 100%,0 100%,10%")
    assert "2    0%,0% 100%,0% 100%,10%" in crow.ok("mask", "list", "till")
    crow.ok("mask", "remove", "till", "1")
    assert json.loads(crow.ok("mask", "list", "till", "--json")) == [[[0.0, 0.0], [1.0, 0.0], [1.0, 0.1]]]
    assert crow("mask", "remove", "till", "2").exit_code == 2
    assert crow("mask", "remove", "till", "0").exit_code == 2
