"""What is shipped beside the code agrees with it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from crow_daemon.cli.main import main as crow_daemon
from crow_daemon.settings import DaemonSettings
from crow_daemon.settings import load as load_daemon
from crow_receiver.cli.main import main as crow_receiver
from crow_receiver.settings import ReceiverSettings
from crow_receiver.settings import load as load_receiver
from crow_shared.errors import CrowError
from crow_shared.settings import sample_toml

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "systemd").glob("*.service"))


def test_the_sample_settings_are_the_defaults() -> None:
    assert (ROOT / "config/daemon.toml").read_text() == sample_toml(DaemonSettings)
    assert (ROOT / "config/receiver.toml").read_text() == sample_toml(ReceiverSettings)
    assert load_daemon(ROOT / "config/daemon.toml", {}) == DaemonSettings()
    assert load_receiver(ROOT / "config/receiver.toml", {}) == ReceiverSettings()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_about_the_units(unit: Path, tmp_path: Path) -> None:
    """systemd-analyze exits with 0 on unknown keys, so its standard error has to be empty, too."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    runnable = tmp_path / unit.name  # the commands and users are not installed here
    text = re.sub(r"^(Exec\w+)=.*$", r"\1=/bin/true", unit.read_text(), flags=re.MULTILINE)
    runnable.write_text(re.sub(r"^User=.*$", "User=daemon", text, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", str(runnable)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize(("unit", "command"), list(zip(UNITS, (crow_daemon, crow_receiver), strict=True)))
def test_the_units_call_commands_that_exist(unit: Path, command: object) -> None:
    called = re.findall(r"^Exec\w+=\S+/bin/(\S+) --config \S+ (\S+)$", unit.read_text(), flags=re.MULTILINE)
    assert [name for name, _ in called] == [unit.stem, unit.stem]
    assert {subcommand for _, subcommand in called} <= set(command.commands)  # type: ignore[attr-defined]


def test_the_units_leave_time_for_an_orderly_stop() -> None:
    for unit, deadline_s in zip(
        UNITS, (DaemonSettings().stop_deadline_s, ReceiverSettings().stop_deadline_s), strict=True
    ):
        stop_s = int(re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), flags=re.MULTILINE)[0])
        assert stop_s > 2 * deadline_s


@pytest.mark.parametrize("load", [load_daemon, load_receiver])
def test_a_log_level_that_does_not_exist_is_refused_before_the_start(load: Callable[..., object]) -> None:
    prefix = "CROW_DAEMON_" if load is load_daemon else "CROW_RECEIVER_"
    with pytest.raises(CrowError, match="log_level"):
        load(None, {f"{prefix}LOG_LEVEL": "loud"})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"CROW_RECEIVER_GRPC__LISTEN": "0.0.0.0:7443"}, "unencrypted"),
        ({}, "internal_key: prod needs one of at least 32"),
        ({"INTERNAL_GATEWAY_KEY": "short"}, "internal_key"),
    ],
)
def test_prod_refuses_insecure_settings_of_the_receiver(environ: dict[str, str], said: str) -> None:
    with pytest.raises(CrowError, match=said):
        load_receiver(None, {"ENVIRONMENT": "prod", **environ})
    assert load_receiver(None, {"ENVIRONMENT": "dev", **environ}).environment == "dev"


def test_prod_accepts_a_receiver_that_is_safe() -> None:
    settings = load_receiver(
        None, {"ENVIRONMENT": "prod", "INTERNAL_GATEWAY_KEY": "k" * 32, "API_GATEWAY_URL": "https://g"}
    )
    assert settings.gateway.url == "https://g"
    assert "kkkk" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"CROW_DAEMON_UPLINK__RECEIVER": "10.0.0.1:7443", "CROW_DAEMON_ORGANIZATION_ID": "acme"}, "unencrypted"),
        ({}, "organization_id: prod needs"),
    ],
)
def test_prod_refuses_insecure_settings_of_the_daemon(environ: dict[str, str], said: str) -> None:
    with pytest.raises(CrowError, match=said):
        load_daemon(None, {"ENVIRONMENT": "prod", **environ})


@pytest.mark.parametrize("command", [crow_daemon, crow_receiver])
def test_check_config_says_what_is_wrong_and_exits_with_2(command: object, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('stat_dir = "/x"\n')
    done = CliRunner().invoke(command, ["--config", str(tmp_path / "c.toml"), "check-config"])  # type: ignore[arg-type]
    assert done.exit_code == 2
    assert "unknown key stat_dir; did you mean state_dir?" in done.stderr
