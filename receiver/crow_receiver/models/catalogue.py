"""The models that can be fetched, each pinned by size and SHA-256; the list is `catalogue.toml` beside this file."""

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

from crow_receiver.models.store import FileNote, Manifest
from crow_shared.errors import CrowError, Kind

ORIGIN = "https://huggingface.co"  # where all of them come from, unless a mirror is given


class RemoteFile(FileNote):
    """A file, where it is, and what it has to be."""

    url: str = Field(pattern=r"^https://")


class CatalogueModel(BaseModel):
    """A text model with the vision tower that belongs to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    model: RemoteFile
    mmproj: RemoteFile

    @property
    def size_bytes(self) -> int:
        """Of both files."""
        return self.model.size_bytes + self.mmproj.size_bytes

    @property
    def manifest(self) -> Manifest:
        """What is noted about this model once it is installed."""
        return Manifest(
            model=FileNote(sha256=self.model.sha256, size_bytes=self.model.size_bytes),
            mmproj=FileNote(sha256=self.mmproj.sha256, size_bytes=self.mmproj.size_bytes),
            source=self.model.url,
        )


class Catalogue(BaseModel):
    """All models, by name, and the licence that they share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str
    licence_url: str
    models: dict[str, CatalogueModel]

    def get(self, name: str) -> CatalogueModel:
        """Raises CrowError(NOT_FOUND), naming what there is, for a name that is not in the catalogue."""
        if name not in self.models:
            names = ", ".join(self.models)
            raise CrowError(Kind.NOT_FOUND, "model_unknown", f"{name!r} is not in the catalogue ({names})")
        return self.models[name]


@cache
def catalogue() -> Catalogue:
    """The catalogue of this release."""
    return Catalogue.model_validate(tomllib.loads((files(__package__) / "catalogue.toml").read_text("utf-8")))
