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


class Peer(Section):
    """One peer."""

    name: str = Field(description="what it is called")
    port: int = Field(default=1, ge=0)


class Inner(Section):
    """What lies deeper."""

    peers: tuple[Peer, ...] = ()
    depth: int = Field(default=2, description="how deep")


class Outer(Section):
    """The outer table."""

    inner: Inner = Inner()
    width: int = 3


class Nested(Section):
    """Tables in tables."""

    outer: Outer = Outer()


def read_nested(text: str, tmp_path: Path) -> Nested:
    path = tmp_path / "nested.toml"
    path.write_text(text)
    return load(Nested, path, {}, prefix="T_", aliases={})


def test_a_sample_has_tables_in_tables_and_those_of_which_there_may_be_several_as_comments(tmp_path: Path) -> None:
    sample = sample_toml(Nested)
    assert read_nested(sample, tmp_path) == Nested()
    assert "[outer]\nwidth = 3\n\n# What lies deeper.\n[outer.inner]\n# how deep\ndepth = 2\n" in sample
    assert "# One peer.\n# [[outer.inner.peers]]\n# what it is called\n# name =\n# port = 1\n" in sample


def test_a_fault_in_one_of_several_tables_says_in_which(tmp_path: Path) -> None:
    tables = '[[outer.inner.peers]]\nname = "a"\n[[outer.inner.peers]]\nname = "b"\n'
    assert [peer.name for peer in read_nested(tables, tmp_path).outer.inner.peers] == ["a", "b"]
    with pytest.raises(CrowError, match=r"unknown key outer\.inner\.peers\.1\.prot; did you mean .*\.1\.port\?"):
        read_nested(tables + "prot = 2\n", tmp_path)
    with pytest.raises(CrowError, match=r"outer\.inner\.peers\.1\.port: Input should be greater"):
        read_nested(tables + "port = -1\n", tmp_path)
