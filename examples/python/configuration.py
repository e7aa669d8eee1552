"""Configuration push: all instances of a program see a new configuration as soon as it is stored, without polling.

    python configuration.py 127.0.0.1:2181
"""

import queue
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError

CONFIGURATION = "/examples/configuration"


def connect(hosts):
    client = KazooClient(hosts)
    client.start()
    return client


def main(hosts):
    operator = connect(hosts)
    operator.delete(CONFIGURATION, recursive=True)
    operator.create(CONFIGURATION, b"colour=blue", makepath=True)

    # Two instances. DataWatch calls `seen.put` with the value now and with every newer one: it reads the znode and
    # leaves a watch there, and does both again each time the watch fires. It may miss a value between two looks, but
    # never the last one.
    instances = []
    for _ in range(2):
        client, seen = connect(hosts), queue.Queue()
        client.DataWatch(CONFIGURATION, lambda data, stat, put=seen.put: put(data))
        assert seen.get(timeout=10) == b"colour=blue"
        instances.append((client, seen))

    operator.set(CONFIGURATION, b"colour=green")
    for _, seen in instances:
        assert seen.get(timeout=10) == b"colour=green"
    print("both instances were told: colour=green")

    # Two operators who edit at once: a version makes sure that nobody overwrites what he has not seen.
    _, stat = operator.get(CONFIGURATION)
    operator.set(CONFIGURATION, b"colour=red", version=stat.version)
    try:
        operator.set(CONFIGURATION, b"colour=yellow", version=stat.version)
        raise AssertionError("an edit was lost")
    except BadVersionError:
        print("the second of two edits of the same version was refused")
    for _, seen in instances:
        assert seen.get(timeout=10) == b"colour=red"

    for client in [operator, *(client for client, _ in instances)]:
        client.stop()
        client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
