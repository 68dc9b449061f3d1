"""How much time is left."""

import socket
import time


def left(deadline: float) -> float:
    """How much time there is; it is an error if there is none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("the time limit has passed")
    return seconds
