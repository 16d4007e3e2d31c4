"""The frame of a page that can be worked with: one file, nothing loaded from a network, the same look for every detector."""

from __future__ import annotations

from firstlight.view.markup import as_text

__all__ = ["interactive_page"]

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""

_STYLE = """:root{color-scheme:light}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#22303c;margin:0;background:#fff;
 display:flex;flex-direction:column;height:100vh}
header{padding:.65rem 1rem .2rem}
h1{font-size:1.15rem;margin:0}
#about,#note,#hint{color:#56616c;font-size:.88rem;margin:.1rem 0}
#note{color:#8a5a00}#note:empty{display:none}
.bar{display:flex;flex-wrap:wrap;gap:.4rem .85rem;align-items:center;padding:.25rem 1rem}
button,select{font:inherit;font-size:.9rem;border:1px solid #b7c0c9;background:#fff;color:#22303c;border-radius:5px;
 padding:.2rem .72rem;cursor:pointer}
button[aria-pressed=true]{background:#1f5f99;border-color:#1f5f99;color:#fff}
button:disabled{color:#a3acb5;cursor:default}
button:focus-visible,select:focus-visible,input:focus-visible{outline:2px solid #d1662a;outline-offset:1px}
.set button{border-radius:0;margin-left:-1px}
.set button:first-of-type{border-radius:5px 0 0 5px}.set button:last-of-type{border-radius:0 5px 5px 0}
"""


def interactive_page(title: str, body: str, scripts: str, *, style: str = "", least_height: int = 560) -> str:
    """Return a page: a title, lines about it, bars of buttons, whatever scripts put into it.

    Parameters
    ----------
    title : str
        Of the window; may hold any characters.
    body : str
        HTML. Elements ``about``, ``note`` and ``hint``, bars of class ``bar`` and buttons side by side in elements of
        class ``set`` have their look from here.
    scripts : str
        HTML with all scripts and their data. A script that is loaded from anywhere does not run.
    style : str
        Further CSS.
    least_height : int
        Smallest height of the page [px].
    """
    look = f"{_STYLE}body{{min-height:{least_height}px}}\n{style}"
    return (
        f"{_HEAD}<title>{as_text(title)}</title>\n<style>\n{look}</style></head><body>\n{body}"
        "<noscript>This page needs JavaScript; it loads nothing from a network.</noscript>\n"
        f"{scripts}\n</body></html>\n"
    )
