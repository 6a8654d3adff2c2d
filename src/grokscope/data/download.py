"""Files from elsewhere: checked, under their names when complete, and not waited for long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONNECT_SECONDS = 3.0
"""How long a server may take to answer."""

_READ_SECONDS = 60.0
_log = logging.getLogger(__name__)


def find(folder: Path, subfolder: str, name: str) -> Path | None:
    """Where a file lies, plain or gzip, if it does."""
    places = (folder, folder / subfolder)
    paths = (place / file for place in places for file in (name, f"{name}.gz"))
    return next((path for path in paths if path.is_file()), None)


def download(url: str, md5: str, target: Path) -> str:
    """Download a file unless it is there; what went wrong, as one line, or nothing."""
    import pooch
    from requests.exceptions import RequestException

    timeout = (CONNECT_SECONDS, _READ_SECONDS)
    downloader = pooch.HTTPDownloader(timeout=timeout, chunk_size=2**16)
    _log.info("Downloading %s to %s", url, target.parent)
    try:
        with _quiet_pooch():
            pooch.retrieve(url, f"md5:{md5}", target.name, target.parent, downloader=downloader)
        target.chmod(0o644)  # pooch leaves 0600, useless in a shared folder
    except RequestException as error:
        return f"{url} broke off with {type(error).__name__}"
    except ValueError:
        return f"{url} sent another file: its checksum is wrong"
    return ""


def answers(url: str) -> bool:
    """Whether the server has the file and says so in time.

    The thread bounds what a socket timeout does not: the name look-up, and a name with many
    addresses, each of which gets its own timeout.
    """
    import pooch

    found = []

    def ask() -> None:
        try:
            ask_only = pooch.HTTPDownloader(timeout=CONNECT_SECONDS)
            found.append(bool(ask_only(url, None, None, check_only=True)))
        except Exception:  # whatever it was, the server is of no use
            found.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return found == [True]


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Silence pooch's own lines; ours say the same once."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
