"""Markup: HTML and SVG built from values, so that text of strangers is escaped wherever it is put."""

import html
import re
from typing import Final

# XML allows no other control characters, and a file name's undecodable bytes come as lone surrogates.
_NOT_TEXT: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """Text that is markup already; any other text is escaped when it becomes part of an element."""

    __slots__ = ()


def readable(text: str) -> str:
    """Return text with U+FFFD for control characters and others that no document may hold."""
    return _NOT_TEXT.sub("\ufffd", text)


def escape(text: object) -> Markup:
    """Return text as markup: special characters escaped, and see `readable`."""
    return text if isinstance(text, Markup) else Markup(html.escape(readable(str(text))))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return `<tag attributes>children</tag>`.

    Parameters
    ----------
    tag : str
        Name of the element.
    children : object
        Its content, in order; what is not `Markup` is escaped, None is left out.
    attributes : object
        `class_` means class, `aria_label` aria-label; None leaves an attribute out.

    Examples
    --------
    >>> element("p", "1 < 2", class_="note")
    '<p class="note">1 &lt; 2</p>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    content = "".join(escape(child) for child in children if child is not None)
    return Markup(f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}{_closing(tag)}")


def joined(*parts: object) -> Markup:
    """Return parts one after the other, as `element` writes its children."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def css_string(text: str) -> str:
    """Return text as a CSS string literal in which no character but letters and digits stands for itself."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in readable(text)) + '"'


_VOID: Final = frozenset({"meta", "br", "hr", "img", "col"})
_SVG_LEAVES: Final = frozenset({"path", "rect", "line", "circle", "use", "polyline"})


def _closing(tag: str) -> str:
    """HTML lets only void and SVG elements close themselves; an empty `<td/>` would stay open."""
    return "/>" if tag in _VOID or tag in _SVG_LEAVES else f"></{tag}>"
