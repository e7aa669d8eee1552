"""Locks across machines: exclusive ones, and shared ones that let readers in together but a writer alone.

    python locks.py 127.0.0.1:2181
"""

import sys
import threading

from kazoo.client import KazooClient

LOCKS = "/examples/locks"
WORKERS = 4
ROUNDS = 5


def connect(hosts):
    client = KazooClient(hosts)
    client.start()
    return client


def exclusive(hosts, client):
    """Several workers increase a number by reading and writing it, which only works one at a time."""
    client.create(f"{LOCKS}/number", b"0", makepath=True)

    def work():
        # Each with a session of its own, as if on a machine of its own.
        mine = connect(hosts)
        # Who waits has a numbered ephemeral znode below `exclusive`, and watches the one in front of it. The lowest
        # holds the lock. If a holder crashes, its znode goes with its session, and the next one is woken.
        lock = mine.Lock(f"{LOCKS}/exclusive")
        for _ in range(ROUNDS):
            with lock:
                number, _ = mine.get(f"{LOCKS}/number")
                mine.set(f"{LOCKS}/number", b"%d" % (int(number) + 1))
        mine.stop()
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    number, stat = client.get(f"{LOCKS}/number")
    assert int(number) == stat.version == WORKERS * ROUNDS
    print(f"exclusive: {WORKERS} workers counted to {int(number)}, and nobody lost a turn")


def shared(hosts, client):
    readers = [connect(hosts) for _ in range(2)]
    held = [reader.ReadLock(f"{LOCKS}/shared") for reader in readers]
    for lock in held:
        assert lock.acquire(timeout=10)

    writer = client.WriteLock(f"{LOCKS}/shared")
    assert not writer.acquire(blocking=False), "a writer came in while there were readers"
    held[0].release()
    assert not writer.acquire(blocking=False), "a writer came in while there was a reader"
    held[1].release()
    assert writer.acquire(timeout=10)
    assert not readers[0].ReadLock(f"{LOCKS}/shared").acquire(blocking=False), "a reader came in beside the writer"
    writer.release()
    print("shared: two readers at once, the writer alone")
    for reader in readers:
        reader.stop()
        reader.close()


def main(hosts):
    client = connect(hosts)
    client.delete(LOCKS, recursive=True)
    exclusive(hosts, client)
    shared(hosts, client)
    client.stop()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
