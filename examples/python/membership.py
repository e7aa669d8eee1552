"""Membership: who is alive right now? Who leaves, or crashes, disappears from the list by itself.

    python membership.py 127.0.0.1:2181

Started with a name as well, it is one member, which stays until it is stopped.
"""

import queue
import signal
import subprocess
import sys
import threading

from kazoo.client import KazooClient

MEMBERS = "/examples/membership"
# How long the server waits for a silent member before it is given up.
SESSION_SECONDS = 4


def be_member(hosts, name):
    client = KazooClient(hosts, timeout=SESSION_SECONDS)
    client.start()
    # An ephemeral znode lives as long as the session of who created it.
    client.create(f"{MEMBERS}/{name}", ephemeral=True)
    goodbye = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: goodbye.set())
    goodbye.wait()
    # Ends the session, and with it the membership, at once.
    client.stop()
    client.close()


def main(hosts):
    client = KazooClient(hosts)
    client.start()
    client.delete(MEMBERS, recursive=True)
    client.ensure_path(MEMBERS)
    lists = queue.Queue()
    client.ChildrenWatch(MEMBERS, lambda names: lists.put(sorted(names)))

    def wait_for(expected):
        # Lists in between may be seen or not: a watch promises the newest state, not every step to it.
        while (names := lists.get(timeout=30)) != expected:
            pass
        print(f"members: {', '.join(names) or 'none'}")

    wait_for([])
    members = {
        name: subprocess.Popen([sys.executable, __file__, hosts, name]) for name in ("ann", "bob", "eve")
    }
    try:
        wait_for(["ann", "bob", "eve"])
        members["bob"].terminate()
        wait_for(["ann", "eve"])
        # Without a goodbye: its session ends when the server has not heard of it for SESSION_SECONDS.
        members["eve"].kill()
        wait_for(["ann"])
        members["ann"].terminate()
        wait_for([])
    finally:
        for process in members.values():
            process.kill()
            process.wait()
    client.stop()
    client.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        be_member(sys.argv[1], sys.argv[2])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
