"""Leader election: one of several candidates leads, and when it is gone another one takes over.

    python election.py 127.0.0.1:2181
"""

import queue
import sys
import threading

from kazoo.client import KazooClient

ELECTION = "/examples/election"


class Candidate:
    def __init__(self, hosts, name, leaders):
        self.name = name
        self.leaders = leaders
        self.retire = threading.Event()
        self.client = KazooClient(hosts)
        self.client.start()
        self.election = self.client.Election(ELECTION, name)
        self.thread = threading.Thread(target=self.stand)
        self.thread.start()

    def stand(self):
        # Waits until it is the leader, then calls `lead`; leadership ends when that returns. A real program also
        # listens for the loss of its session (`client.add_listener`), and stops leading at once then: somebody else
        # may lead.
        self.election.run(self.lead)
        # Whatever happens to a leader, its session ends, and the next candidate in the line is woken.
        self.client.stop()
        self.client.close()

    def lead(self):
        self.leaders.put(self)
        self.retire.wait()


def main(hosts):
    client = KazooClient(hosts)
    client.start()
    client.delete(ELECTION, recursive=True)
    client.ensure_path(ELECTION)

    leaders = queue.Queue()
    candidates = [Candidate(hosts, name, leaders) for name in ("ann", "bob", "eve")]
    reigns = []
    try:
        for _ in candidates:
            leader = leaders.get(timeout=30)
            assert leaders.empty(), "two leaders at once"
            # The line of candidates is public; the first in it is the leader.
            waiting = client.Election(ELECTION).contenders()
            assert waiting[0] == leader.name
            reigns.append(leader.name)
            print(f"{leader.name} leads")
            leader.retire.set()
    finally:
        for candidate in candidates:
            candidate.retire.set()
            candidate.election.cancel()
            candidate.thread.join()
    assert sorted(reigns) == ["ann", "bob", "eve"]
    client.stop()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
