"""The reading page: static files, and the image viewer that is brought in when the package is built."""

from __future__ import annotations

from pathlib import Path

__all__ = ["niivue_missing", "static_files"]

FOLDER = Path(__file__).parent
NIIVUE = "niivue.umd.js"

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}

PAGES = {"/": "index.html", "/notices.txt": "NOTICES.txt"}
SCRIPTS = (
    *("api.js", "clock.js", "dialogs.js", "form.js", "keyboard.js", "outbox.js", "overlay.js", "page.js"),
    *("screens.js", "surface.js", "viewer.js"),
)
STYLES = ("page.css",)


def static_files() -> dict[str, tuple[Path, str]]:
    """Return all that the page is made of: address -> (file, media type).

    Nothing else of the folder is served. The viewer's file is listed whether or not it is there;
    :func:`niivue_missing` tells.

    >>> static_files()["/"][1]
    'text/html; charset=utf-8'
    """
    files = {address: FOLDER / name for address, name in PAGES.items()}
    files |= {f"/{name}": FOLDER / name for name in (*SCRIPTS, *STYLES)}
    files[f"/{NIIVUE}"] = FOLDER / "vendor" / NIIVUE
    return {address: (path, MEDIA_TYPES[path.suffix]) for address, path in files.items()}


def niivue_missing() -> str:
    """Return why the page cannot show images, with the remedy; empty when it can.

    The viewer is not part of a checkout: a build of the package fetches it by npm, at the version and
    checksum of ``package-lock.json``.
    """
    from medrestore.study.page.build_hook import missing  # it is run as a module, too

    reason = missing(FOLDER)
    if not reason:
        return ""
    return (
        f"{reason}. Remedy: install Node.js (which brings npm) and run "
        "python -m medrestore.study.page.build_hook, or read in a desktop viewer: "
        "medrestore study handout STUDY --reader NAME --output FOLDER"
    )
