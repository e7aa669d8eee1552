"""What the test classes share: one server per class, kazoo clients that are stopped, folders of their own."""

import time
import unittest

from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from .server import Server
from .wire import Conn


class ServerCase(unittest.TestCase):
    """Every class runs on a fresh server; every test gets a path of its own below `/`."""

    extra = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(extra=cls.extra)
        cls.addClassCleanup(cls.server.destroy)
        cls.server.start()

    def setUp(self):
        self.server.assert_alive()
        self.top = f"/{self._testMethodName}"

    def kazoo(self, timeout=8.0, **options):
        """A connected kazoo client that reconnects quickly and is stopped after the test."""
        retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1.0, max_jitter=0.0)
        client = KazooClient(self.server.hosts, timeout=timeout, connection_retry=retry, **options)
        self.addCleanup(client.close)
        self.addCleanup(client.stop)
        client.start(timeout=20)
        return client

    def conn(self, **options):
        conn = Conn(self.server.address, **options)
        self.addCleanup(conn.close)
        return conn

    def eventually(self, check, what, seconds=15.0):
        """Polls until `check` returns something true and returns that."""
        deadline = time.monotonic() + seconds
        while not (value := check()):
            self.assertLess(time.monotonic(), deadline, f"not within {seconds} s: {what}")
            time.sleep(0.02)
        return value
