"""Download a file, and keep it only if the repository vouches for it: with python-tuf.

    python examples/tuf_client.py http://127.0.0.1:8081 root.json hello/hello-1.0.tar.gz

root.json says which keys to trust. It has to come from a safe source, such as your program's own package, never from the server. The file
is saved in downloads/.
"""

import sys
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

STATE = Path("tuf-state")
"""The metadata that this client has seen. Keep it between runs, so that the client never accepts older metadata."""

DOWNLOADS = Path("downloads")


def main(url: str, root: Path, path: str) -> None:
    """Verify the metadata, download the file, and compare it with the metadata."""
    for directory in (STATE, DOWNLOADS):
        directory.mkdir(exist_ok=True)
    updater = Updater(
        metadata_dir=str(STATE),
        metadata_base_url=f"{url}/metadata/",
        target_dir=str(DOWNLOADS),
        target_base_url=f"{url}/targets/",
        config=UpdaterConfig(prefix_targets_with_hash=False),  # the files keep their plain names
        bootstrap=root.read_bytes(),
    )
    info = updater.get_targetinfo(path)  # downloads and verifies the metadata
    if info is None:
        sys.exit(f"error: the repository does not list {path}")
    file = str(DOWNLOADS / Path(path).name)
    print("verified:", updater.find_cached_target(info, file) or updater.download_target(info, file))


if __name__ == "__main__":
    try:
        main(sys.argv[1].rstrip("/"), Path(sys.argv[2]), sys.argv[3])
    except (RepositoryError, DownloadError) as error:
        sys.exit(f"error: {error}")
