"""What an operator tells models of one camera: more than a picture shows."""

import json
from dataclasses import asdict, dataclass

from crow_shared.errors import CrowError, Kind

MAX_CONTEXT_CHARS = 300
MAX_PRODUCTS = 16
MAX_PRODUCT_CHARS = 40
MAX_LANGUAGE_CHARS = 40


@dataclass(frozen=True, slots=True)
class Brief:
    """Of one camera; all of it is data for models, never instructions.

    `context` says what the camera looks at; `products` are products or categories that interactions are sorted into;
    `language` is that of descriptions, in plain words, empty for English. Texts are printable, on one line.
    """

    context: str = ""
    products: tuple[str, ...] = ()
    language: str = ""

    def to_text(self) -> str:
        """As it is stored: JSON, empty for an empty brief."""
        return "" if self == Brief() else json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "Brief":
        """The brief that was stored. Raises CrowError(CORRUPT) for what is none."""
        if not text:
            return cls()
        try:
            stored = json.loads(text)
            return cls(stored["context"], tuple(stored["products"]), stored["language"])
        except (ValueError, KeyError, TypeError) as error:
            raise CrowError(Kind.CORRUPT, "brief_corrupt", f"what is stored of a camera is no brief: {error}") from None


NO_BRIEF = Brief()


def checked_brief(context: str, products: tuple[str, ...], language: str) -> Brief:
    """A brief within its bounds. Raises CrowError(INVALID) that says what is not."""
    _check("the context", context, MAX_CONTEXT_CHARS)
    _check("the language", language, MAX_LANGUAGE_CHARS)
    if len(products) > MAX_PRODUCTS:
        raise _invalid(f"there are {len(products)} products; {MAX_PRODUCTS} are the most")
    if len(set(products)) < len(products):
        raise _invalid("a product is named twice")
    for product in products:
        _check("a product", product, MAX_PRODUCT_CHARS)
        if not product.strip() or product == "null":
            raise _invalid(f"{product!r} is no name of a product")
    return Brief(context, products, language)


def _check(what: str, text: str, most_chars: int) -> None:
    if len(text) > most_chars:
        raise _invalid(f"{what} has {len(text)} characters; {most_chars} are the most")
    if not text.isprintable():
        raise _invalid(f"{what} has characters that cannot be printed")


def _invalid(why: str) -> CrowError:
    return CrowError(Kind.INVALID, "brief_invalid", why)
