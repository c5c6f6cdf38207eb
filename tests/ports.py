# SPDX-License-Identifier: MIT
"""ports.py - ports for servers that have to be told one."""
import contextlib
import random
import socket

# Below those that the kernel gives to clients: a crowd of these, in a test that runs beside, takes what was free
# before the server has begun.
PORTS = range(10000, 32768)


def free_port():
    while True:
        port = random.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
