"""Pipelined requests of one connection: values, zxids, stats and events exactly as the Java server 3.9.5 gives them.

`java-3.9.5.txt` is that server's transcript. With `$JAVA_CP` the Java server also runs here, and both the file and our
server are compared with it; `RECORD=1` then writes the file anew.
"""

import difflib
import os
import pathlib

from . import scripts
from .base import ServerCase
from .server import java_server

RECORDED = pathlib.Path(__file__).with_name("java-3.9.5.txt")


class Order(ServerCase):
    def assert_same(self, expected, found, expected_name, found_name):
        difference = list(difflib.unified_diff(expected, found, expected_name, found_name, lineterm="", n=2))
        self.assertFalse(difference, "\n" + "\n".join(difference))

    def test_pipelined_scripts_are_answered_as_java_does(self):
        recorded = RECORDED.read_text().splitlines()
        mine = scripts.transcript(self.server.address)
        self.assertEqual(sum(not line.startswith(" ") for line in mine), len(scripts.SCRIPTS))
        self.assert_same(recorded, mine, "java 3.9.5, recorded", "this server")

    def test_a_live_java_server_agrees_with_the_recording(self):
        java = java_server()
        if java is None:
            # Not skipped in silence: the recording is all there is to compare with, so it must be whole.
            names = [line for line in RECORDED.read_text().splitlines() if not line.startswith(" ")]
            self.assertEqual(names, list(scripts.SCRIPTS))
            print("note: JAVA_CP is not set, the live comparison with Java 3.9.5 did not run", flush=True)
            return
        with java:
            lines = scripts.transcript(java.address)
        if os.environ.get("RECORD"):
            RECORDED.write_text("\n".join(lines) + "\n")
        self.assert_same(lines, RECORDED.read_text().splitlines(), "java 3.9.5, live", "java 3.9.5, recorded")

    def test_the_same_script_on_many_connections_at_once(self):
        """Every connection sends its packet before anybody reads: each must still see its own writes in order."""
        from . import wire

        conns = [self.conn() for _ in range(32)]
        for i, conn in enumerate(conns):
            path = f"{self.top}-{i}"
            requests = [(wire.CREATE, wire.create(path, b"0"))]
            for n in range(20):
                requests += [(wire.SET_DATA, wire.set_data(path, b"%d" % n, n)), (wire.GET_DATA, wire.watched(path))]
            requests += [(wire.DELETE, wire.delete(path, 20)), (wire.GET_DATA, wire.watched(path))]
            conn.send(b"".join(conn.request(op, body) for op, body in requests))
        taken = set()
        for conn in conns:
            last = 0
            replies = [conn.next() for _ in range(43)]
            self.assertEqual([r.xid for r in replies], list(range(1, 44)))
            for reply in replies:
                self.assertLessEqual(last, reply.zxid)
                last = reply.zxid
            self.assertEqual([r.err for r in replies], [0] * 42 + [wire.NO_NODE])
            for n in range(20):
                changed, read = replies[1 + 2 * n], replies[2 + 2 * n]
                fields = wire.Reader(read.body)
                self.assertEqual(fields.buffer(), b"%d" % n)
                self.assertEqual(fields.stat(), wire.Reader(changed.body).stat())
                self.assertLessEqual(changed.zxid, read.zxid)
            mine = {replies[0].zxid, replies[41].zxid, *(replies[1 + 2 * n].zxid for n in range(20))}
            self.assertEqual(len(mine), 22)
            self.assertFalse(taken & mine, "two writes have one zxid")
            taken |= mine
