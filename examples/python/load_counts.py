"""Load counts: servers publish how much they have to do, and clients go to the one with the least.

    python load_counts.py 127.0.0.1:2181
"""

import sys
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoNodeError

LOADS = "/examples/load-counts"
CLIENTS = 4
JOBS_EACH = 15


def connect(hosts):
    client = KazooClient(hosts)
    client.start()
    return client


def loads(client):
    """Server, load and version of each server that is alive, the least loaded first."""
    found = []
    for name in client.get_children(LOADS):
        try:
            count, stat = client.get(f"{LOADS}/{name}")
            found.append((int(count), name, stat.version))
        except NoNodeError:
            # It was alive when the children were listed, and is not any more.
            pass
    return sorted(found)


def give_job(client):
    """Adds one to the smallest count. The version finds out whether somebody else was faster; then it looks again."""
    while True:
        count, name, version = loads(client)[0]
        try:
            client.set(f"{LOADS}/{name}", b"%d" % (count + 1), version=version)
            return
        except (BadVersionError, NoNodeError):
            continue


def main(hosts):
    client = connect(hosts)
    client.delete(LOADS, recursive=True)
    client.ensure_path(LOADS)

    # A count is an ephemeral znode: when its server is gone, nobody is sent there any more.
    servers = {name: connect(hosts) for name in ("ann", "bob", "eve")}
    for name, server in servers.items():
        server.create(f"{LOADS}/{name}", b"0", ephemeral=True)

    def work():
        mine = connect(hosts)
        for _ in range(JOBS_EACH):
            give_job(mine)
        mine.stop()
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = {name: count for count, name, _ in loads(client)}
    print("loads: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    assert sum(counts.values()) == CLIENTS * JOBS_EACH, "a job was not counted"
    # What a client adds to was the smallest count when it looked, and others only grow meanwhile: they stay even.
    assert max(counts.values()) - min(counts.values()) <= 1

    servers["eve"].stop()
    servers["eve"].close()
    give_job(client)
    counts = {name: count for count, name, _ in loads(client)}
    assert sorted(counts) == ["ann", "bob"]
    print("without eve: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    for other in (client, servers["ann"], servers["bob"]):
        other.stop()
        other.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
