"""A queue of jobs: each is done by one worker, and the job of a worker that dies is given to another.

    python work_queue.py 127.0.0.1:2181
"""

import collections
import sys
import threading

from kazoo.client import KazooClient

QUEUE = "/examples/work-queue"
JOBS = [b"job %02d" % number for number in range(20)]


def connect(hosts):
    client = KazooClient(hosts)
    client.start()
    return client


def main(hosts):
    client = connect(hosts)
    client.delete(QUEUE, recursive=True)
    # A job is a znode with a number at the end of its name: the lowest number is first in the queue.
    jobs = client.LockingQueue(QUEUE)
    jobs.put_all(JOBS)
    assert len(jobs) == len(JOBS)

    # This worker takes the first job and dies with it. `get` only locks a job, by an ephemeral znode, until `consume`.
    unlucky = connect(hosts)
    assert unlucky.LockingQueue(QUEUE).get(timeout=10) == JOBS[0]
    unlucky.stop()
    unlucky.close()

    done = collections.Counter()

    def work():
        mine = connect(hosts)
        queue = mine.LockingQueue(QUEUE)
        # Nothing for two seconds: the queue is empty.
        while (job := queue.get(timeout=2)) is not None:
            # Whether it is still ours is known only now: whoever lost his session has lost his job as well.
            if queue.consume():
                done[job] += 1
        mine.stop()
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == collections.Counter(JOBS), f"not each job once: {done}"
    assert len(jobs) == 0
    print(f"{len(done)} jobs were done once each, the one of the dead worker among them")
    client.stop()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
