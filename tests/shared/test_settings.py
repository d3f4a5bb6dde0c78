"""Settings are strict and say what is wrong in words an operator can act on."""

from pathlib import Path

import pytest
from pydantic import Field

from crow_shared.errors import CrowError, Kind
from crow_shared.settings import Environment, Section, load, sample_toml


class Link(Section):
    """The link."""

    address: str = Field(default="here:1", description="where to")
    retries: int = Field(default=3, ge=0)


class Settings(Section):
    """Everything."""

    environment: Environment = Environment.LOCAL
    link: Link = Link()


def read(path: Path | None, **environ: str) -> Settings:
    return load(Settings, path, environ, prefix="T_", aliases={"ENVIRONMENT": ("environment",)})


def test_defaults_hold_without_a_file() -> None:
    assert read(None) == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('environment = "dev"\n[link]\nretries = 5\naddress = "there:2"\n')
    loaded = read(path, ENVIRONMENT="prod", T_LINK__RETRIES="7", T_CONFIG=str(path))
    assert loaded == Settings(environment=Environment.PROD, link=Link(address="there:2", retries=7))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[link]\nretrys = 1\n", "unknown key link.retrys; did you mean link.retries?"),
        ("colour = 1\n", "unknown key colour"),
        ("[link]\nretries = -1\n", "link.retries: Input should be greater than or equal to 0"),
        ('environment = "live"\n', "environment: Input should be 'local', 'dev' or 'prod'"),
        ("[link\n", "is no valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_the_reason(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(CrowError) as caught:
        read(path)
    assert caught.value.kind is Kind.INVALID
    assert said in caught.value.message
    assert str(path) in caught.value.message


def test_an_unknown_variable_under_the_prefix_is_refused() -> None:
    with pytest.raises(CrowError, match=r"unknown key link\.adress; did you mean link\.address\?"):
        read(None, T_LINK__ADRESS="x")


def test_a_fault_is_blamed_on_the_variable_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text("")
    with pytest.raises(CrowError, match=r"^environment variable T_LINK__RETRIES: link\.retries: "):
        read(path, T_LINK__RETRIES="-1")


def test_a_missing_file_is_not_taken_for_defaults(tmp_path: Path) -> None:
    with pytest.raises(CrowError) as caught:
        read(tmp_path / "none.toml")
    assert caught.value.kind is Kind.NOT_FOUND


def test_the_sample_is_a_file_that_loads_as_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text(sample_toml(Settings))
    assert read(path) == Settings()
    assert "# where to" in path.read_text()
