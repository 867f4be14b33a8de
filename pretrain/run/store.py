"""The store of a process group, on a socket that the launcher has opened already."""

import os
from typing import Any

STORE = "CONVBERT_STORE_FD"
"""Variable with the number of the open socket that process 0 hands on."""


def host_store() -> Any:
    """Serve torch's store on the socket this process was handed; None where it was not.

    The caller keeps the result for as long as the process group lives.
    """
    descriptor = os.environ.pop(STORE, None)
    if descriptor is None:
        return None
    from torch.distributed import TCPStore

    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=int(descriptor),
    )
