"""A self-contained HTML page: no script, nothing loaded from elsewhere, light and dark."""

from collections.abc import Iterable
from html import escape

from journeyman.pages.style import STYLE


def document(title: str, body: Iterable[str]) -> str:
    """The whole page; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing may run or be fetched, whatever slips through.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>{''.join(body)}</main></body></html>\n"
    )


def header(title: str, subtitle: str) -> str:
    return f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"


def section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def figure(title: str, legend: str, picture: str) -> str:
    """A picture with its title and its legend (HTML)."""
    return f"<figure><figcaption><b>{escape(title)}</b><span>{legend}</span></figcaption>{picture}</figure>"


def large_figures(figures: Iterable[tuple[str, str, str]], *, label: str) -> str:
    """(name, large figure as HTML, a word on it) side by side; `label` is for who can't see them."""
    steps = [
        f"<li><span>{escape(name)}</span><b>{large}</b><span>{escape(word)}</span></li>"
        for name, large, word in figures
    ]
    return f'<ol class="ladder" aria-label="{escape(label)}">{"".join(steps)}</ol>'
