"""Naming: everybody finds a service by its name, and no two things get the same name.

    python naming.py 127.0.0.1:2181
"""

import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

NAMES = "/examples/naming"


def main(hosts):
    client = KazooClient(hosts)
    client.start()
    # What an earlier run left behind.
    client.delete(NAMES, recursive=True)
    client.ensure_path(NAMES)

    # A name is a path, and what it stands for is the data of the znode there.
    client.create(f"{NAMES}/database", b"10.0.0.7:5432")
    address, stat = client.get(f"{NAMES}/database")
    assert address == b"10.0.0.7:5432" and stat.version == 0
    print(f"database is at {address.decode()}")

    # Who creates a path first has the name; everybody else is told that it is taken.
    try:
        client.create(f"{NAMES}/database", b"10.0.0.8:5432")
        raise AssertionError("the name was given away twice")
    except NodeExistsError:
        print("the name is taken, as it should be")

    # A sequence lets the server choose: the number at the end is never given twice below one parent.
    order = [client.create(f"{NAMES}/ticket-", sequence=True) for _ in range(3)]
    assert len(set(order)) == 3 and order == sorted(order)
    print("tickets: " + ", ".join(path.rpartition("/")[2] for path in order))

    # The directory of all names is the list of children.
    assert sorted(client.get_children(NAMES)) == ["database"] + [path.rpartition("/")[2] for path in order]
    client.stop()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
