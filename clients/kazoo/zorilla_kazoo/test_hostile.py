"""Foreign bytes: whatever arrives, the server answers or closes that connection, serves the others and stays small.

After every test a bystander, connected before, must still be answered on its old connection, and a newcomer on a new
one. The size of the process is compared with its size at the start of the class.
"""

import os
import random
import socket
import struct
import time

from . import wire
from .base import ServerCase
from .wire import Conn

RSS_MIB_MAX = float(os.environ.get("ZORILLA_RSS_MIB", "128"))


class Hostile(ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.big = b"b" * (512 * 1024)
        with Conn(cls.server.address) as conn:
            conn.make("/big", cls.big)
            conn.get("/big")
            conn.end_session()
        cls.rss_mib = cls.server.rss_mib()

    def setUp(self):
        super().setUp()
        self.bystander = self.conn()
        self.bystander.make(self.top, b"mine")
        self.addCleanup(self.check_the_others)

    def check_the_others(self):
        self.server.assert_alive()
        self.assertEqual(self.bystander.get(self.top)[0], b"mine")
        with Conn(self.server.address) as newcomer:
            newcomer.put(self.top, b"mine")
            newcomer.end_session()
        grown = self.server.rss_mib() - self.rss_mib
        self.assertLess(grown, RSS_MIB_MAX, f"the server grew by {grown:.0f} MiB")

    def raw(self):
        return self.conn(handshake=False)

    def assert_closed_without_reply(self, first_bytes):
        conn = self.raw()
        conn.send(first_bytes)
        conn.assert_closed()

    def test_a_negative_length_closes_at_once(self):
        for length in (-1, -2, -(2**31)):
            self.assert_closed_without_reply(struct.pack(">i", length))
            conn = self.conn()
            conn.send(struct.pack(">i", length))
            conn.assert_closed()

    def test_an_oversized_length_closes_at_once(self):
        for length in (wire.FRAME_BYTES_MAX + 1, 1 << 24, 2**31 - 1):
            self.assert_closed_without_reply(struct.pack(">i", length))
            conn = self.conn()
            conn.send(struct.pack(">i", length))
            conn.assert_closed()

    def test_a_bad_length_behind_good_requests_loses_none_of_them(self):
        conn = self.conn()
        conn.send(conn.request(wire.SET_DATA, wire.set_data(self.top, b"x")) + struct.pack(">i", -5))
        try:
            self.assertEqual(conn.next().err, 0)
        except wire.Closed:
            pass  # The server may close before the reply is out; the write has happened or not, never half.
        self.assertIn(self.bystander.get(self.top)[0], (b"x", b"mine"))
        self.bystander.put(self.top, b"mine")

    def test_a_frame_shorter_than_its_header_closes(self):
        for length in range(8):
            conn = self.conn()
            conn.send(wire.framed(b"\0" * length))
            conn.assert_closed()

    def test_garbage_as_first_bytes(self):
        for garbage in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"zzzz", b"\xff" * 64):
            self.assert_closed_without_reply(garbage)

    def test_malformed_connect_requests(self):
        whole = wire.connect_request()
        for length in range(len(whole) - 1):
            with self.subTest(f"cut to {length} bytes"):
                self.assert_closed_without_reply(wire.framed(whole[:length]))
        head = wire.i32(0) + wire.i64(0) + wire.i32(10000) + wire.i64(0)
        for count in (-2, -(2**31), 17, 1000, 2**31 - 1):
            with self.subTest(f"password of {count} bytes"):
                self.assert_closed_without_reply(wire.framed(head + wire.i32(count) + bytes(16)))

    def test_odd_connect_requests_that_are_legal(self):
        odd = {
            "protocol version": wire.i32(-77) + wire.connect_request()[4:],
            "null password": wire.connect_request(password=None),
            "empty password": wire.connect_request(password=b""),
            "long password": wire.connect_request(password=b"p" * 4000),
            "read-only": wire.connect_request(read_only=b"\x01"),
            "read-only 7": wire.connect_request(read_only=b"\x07"),
            "trailing bytes": wire.connect_request() + b"trailing",
        }
        for name, payload in odd.items():
            with self.subTest(name):
                conn = self.raw()
                conn.send(wire.framed(payload))
                self.assertEqual(conn.read_connected().timeout_ms, 10000)
                conn.ping()
                conn.end_session()

    def test_a_second_connect_request_is_an_unknown_opcode(self):
        conn = self.conn()
        conn.send(wire.framed(wire.connect_request()))
        reply = conn.next()
        self.assertEqual((reply.zxid, reply.err), (-1, wire.UNIMPLEMENTED))
        conn.assert_closed()

    def test_unknown_opcodes_are_unimplemented_and_close_but_the_session_lives(self):
        for op in (0, -1, 10, wire.CHECK, 23, 99, 108, 1000, -12, 2**31 - 1, -(2**31)):
            with self.subTest(op):
                conn = self.conn()
                conn.make(f"{self.top}/e", flags=1)
                conn.send(conn.request(op, wire.text("/x") + bytes(64), xid=77) + conn.request(wire.PING, xid=-2))
                self.assertEqual(conn.next(), wire.Reply(77, -1, wire.UNIMPLEMENTED, b""))
                conn.assert_closed()
                mine = conn.connected
                again = self.conn(session=mine.session, password=mine.password)
                self.assertIsNotNone(again.stat(f"{self.top}/e"))
                again.end_session()

    def test_known_opcodes_are_served_or_refused_as_unknown_never_ignored(self):
        path = wire.text(self.top)
        header = struct.Struct(">i?i")
        end = header.pack(-1, True, -1)
        requests = {
            "getACL": (wire.GET_ACL, path),
            "setACL": (wire.SET_ACL, path + wire.vector(wire.OPEN_ACL) + wire.i32(-1)),
            "multi": (wire.MULTI, header.pack(wire.CHECK, False, -1) + path + wire.i32(-1) + end),
            "multiRead": (wire.MULTI_READ, header.pack(wire.GET_DATA, False, -1) + wire.watched(self.top) + end),
            "reconfig": (wire.RECONFIG, wire.text(None) * 3 + wire.i64(-1)),
            "checkWatches": (wire.CHECK_WATCHES, path + wire.i32(2)),
            "removeWatches": (wire.REMOVE_WATCHES, path + wire.i32(2)),
            "createContainer": (wire.CREATE_CONTAINER, wire.create(f"{self.top}/c", flags=4)),
            "createTTL": (wire.CREATE_TTL, wire.create(f"{self.top}/t", flags=5) + wire.i64(1000)),
            "getEphemerals": (wire.GET_EPHEMERALS, path),
            "getAllChildrenNumber": (wire.GET_ALL_CHILDREN_NUMBER, path),
            "setWatches2": (wire.SET_WATCHES2, wire.set_watches(0) + wire.vector(()) * 2),
            "addWatch": (wire.ADD_WATCH, path + wire.i32(0)),
            "whoAmI": (wire.WHO_AM_I, b""),
        }
        for name, (op, body) in requests.items():
            with self.subTest(name):
                conn = self.conn()
                conn.send(conn.request(op, body, xid=5) + conn.request(wire.PING, xid=-2))
                reply = conn.next()
                self.assertEqual(reply.xid, 5)
                if reply.zxid == -1:
                    self.assertEqual((reply.err, reply.body), (wire.UNIMPLEMENTED, b""))
                    conn.assert_closed()
                else:
                    self.assertGreater(reply.zxid, 0)
                    self.assertEqual(conn.next().xid, wire.XID_PING)

    def test_truncated_records_are_marshalling_errors_and_the_connection_stays(self):
        conn = self.conn()
        bodies = {
            wire.CREATE: wire.create(f"{self.top}/cut", b"data"),
            wire.CREATE2: wire.create(f"{self.top}/cut", b"data"),
            wire.DELETE: wire.delete(f"{self.top}/cut"),
            wire.EXISTS: wire.watched(self.top),
            wire.GET_DATA: wire.watched(self.top),
            wire.SET_DATA: wire.set_data(f"{self.top}/cut", b"data"),
            wire.GET_CHILDREN: wire.watched(self.top),
            wire.GET_CHILDREN2: wire.watched(self.top),
            wire.SYNC: wire.text(self.top),
            wire.SET_WATCHES: wire.set_watches(0, [self.top], [self.top], [self.top]),
        }
        for op, body in bodies.items():
            for length in range(len(body)):
                reply = conn.call(op, body[:length])
                self.assertEqual(reply.err, wire.MARSHALLING, f"op {op} cut to {length} of {len(body)} bytes")
        self.assertIsNone(conn.stat(f"{self.top}/cut"))

    def test_bad_inner_lengths_are_marshalling_errors(self):
        conn = self.conn()
        for count in (-2, -(2**31), 100, 3_000_000, 2**31 - 1):
            bad = wire.i32(count)
            for op, body in (
                (wire.CREATE, bad + b"/x"),
                (wire.CREATE, wire.text(f"{self.top}/x") + bad + b"data"),
                (wire.GET_DATA, bad + b"/x"),
                (wire.SET_DATA, wire.text(self.top) + bad + b"data"),
                (wire.DELETE, bad + b"/x"),
            ):
                self.assertEqual(conn.call(op, body).err, wire.MARSHALLING, f"op {op}, inner length {count}")
        for count in (100, 1 << 20, 2**31 - 1):
            body = wire.text(f"{self.top}/x") + wire.buffer(b"") + wire.i32(count) + wire.acl() + wire.i32(0)
            self.assertEqual(conn.call(wire.CREATE, body).err, wire.MARSHALLING, f"{count} ACLs announced")
            body = wire.i64(0) + wire.i32(count) + wire.text("/x")
            self.assertEqual(conn.call(wire.SET_WATCHES, body).err, wire.MARSHALLING, f"{count} paths announced")
        # Any negative count other than -1 reads as an empty list.
        body = wire.text(f"{self.top}/x") + wire.buffer(b"") + wire.i32(-7) + wire.i32(0)
        self.assertEqual(conn.call(wire.CREATE, body).err, wire.INVALID_ACL)

    def test_null_paths(self):
        conn = self.conn()
        for op, body, err in (
            (wire.CREATE, wire.create(None), wire.MARSHALLING),
            (wire.CREATE2, wire.create(None), wire.MARSHALLING),
            (wire.DELETE, wire.delete(None), wire.MARSHALLING),
            (wire.EXISTS, wire.watched(None), wire.MARSHALLING),
            (wire.GET_DATA, wire.watched(None, True), wire.MARSHALLING),
            (wire.GET_CHILDREN, wire.watched(None, True), wire.MARSHALLING),
            (wire.GET_CHILDREN2, wire.watched(None), wire.MARSHALLING),
            (wire.SET_DATA, wire.set_data(None, b""), wire.BAD_ARGUMENTS),
            (wire.SYNC, wire.text(None), wire.OK),
        ):
            with self.subTest(op):
                self.assertEqual(conn.call(op, body).err, err)

    def test_trailing_bytes_are_ignored(self):
        conn = self.conn()
        for op, body in (
            (wire.CREATE, wire.create(f"{self.top}/t")),
            (wire.SET_DATA, wire.set_data(f"{self.top}/t", b"t")),
            (wire.GET_DATA, wire.watched(f"{self.top}/t")),
            (wire.DELETE, wire.delete(f"{self.top}/t")),
        ):
            self.assertEqual(conn.call(op, body + b"\xde\xad" * 20).err, 0)

    def test_any_xid_is_echoed(self):
        conn = self.conn()
        for xid in (0, -1 << 31, -3, -8, 2**31 - 1, 5, 5):
            self.assertEqual(conn.call(wire.EXISTS, wire.watched(self.top), xid=xid).err, 0)
        # A ping is answered with -2 whatever it was asked with.
        conn.send(conn.request(wire.PING, xid=123))
        self.assertEqual(conn.next().xid, wire.XID_PING)

    def test_requests_in_pieces_of_one_byte(self):
        conn = self.conn()
        for byte in conn.request(wire.GET_DATA, wire.watched(self.top)):
            conn.send(bytes([byte]))
        self.assertEqual(conn.next().err, 0)

    def test_random_bytes_as_connections(self):
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"seed {seed}", flush=True)
        source = random.Random(seed)
        for _ in range(300):
            with Conn(self.server.address, handshake=False) as conn:
                try:
                    conn.send(source.randbytes(source.randrange(1, 400)))
                except OSError:
                    pass

    def test_random_frames_on_open_sessions(self):
        """Well-framed nonsense: random opcodes, random bodies, and good bodies with flipped bytes."""
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"seed {seed}", flush=True)
        source = random.Random(seed)
        ops = (1, 2, 3, 4, 5, 8, 9, 11, 12, 15, 101)
        good = {
            1: wire.create(f"{self.top}/r", b"d" * 20), 15: wire.create(f"{self.top}/r", b"d" * 20, 2),
            2: wire.delete(f"{self.top}/r"), 5: wire.set_data(f"{self.top}/r", b"e" * 20),
            101: wire.set_watches(0, [self.top], [self.top], [self.top]), 9: wire.text(self.top), 11: b"",
        }
        for _ in range(60):
            with self.conn() as conn:
                packet = b""
                for _ in range(50):
                    op = source.choice(ops)
                    body = bytearray(good.get(op, wire.watched(self.top)))
                    if source.random() < 0.3:
                        body = bytearray(source.randbytes(source.randrange(80)))
                    elif body:
                        # The first bytes of a path stay: a random create somewhere else would outlive this test.
                        body[source.randrange(len(body))] ^= 1 << source.randrange(8)
                    packet += conn.request(op, bytes(body))
                conn.send(packet)
                # Each of these has a known opcode, so each is answered, in order, with events in between.
                expected = 1
                while expected <= 50:
                    reply = conn.next()
                    if reply.xid == wire.XID_NOTIFICATION:
                        continue
                    self.assertIn(reply.xid, (expected, wire.XID_PING))
                    expected += 1

    def test_half_open_connections_hold_no_memory(self):
        """Each announces the largest frame and sends a few bytes of it."""
        conns = []
        for _ in range(400):
            conn = self.raw()
            conn.send(wire.framed(wire.connect_request()) + wire.i32(wire.FRAME_BYTES_MAX) + b"abc")
            conns.append(conn)
        for conn in conns:
            conn.read_connected()
        self.check_the_others()
        for conn in conns:
            conn.close()

    def test_connections_that_send_nothing(self):
        conns = [self.raw() for _ in range(200)]
        self.check_the_others()
        for conn in conns:
            conn.close()

    def test_connections_cut_in_the_middle_of_a_frame(self):
        for _ in range(100):
            conn = self.conn(timeout_ms=1000)
            conn.send(conn.request(wire.SET_DATA, wire.set_data(self.top, b"never" * 50))[:-1])
            # A reset instead of an orderly end: the peer vanished.
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
        self.assertEqual(self.bystander.get(self.top)[0], b"mine")

    def test_slow_readers_slow_only_themselves(self):
        """Each asks for half a gigabyte in small requests and reads nothing of it for a while.

        The Java server 3.9.5 queues all of it: it needs a large `ZORILLA_RSS_MIB`, and a heap to match.
        """
        slow = []
        for _ in range(8):
            conn = self.conn()
            conn.sock.setblocking(False)
            packet = b"".join(conn.request(wire.GET_DATA, wire.watched("/big")) for _ in range(1000))
            try:
                conn.sock.send(packet)
            except BlockingIOError:
                pass
            slow.append(conn)
        peak = 0.0
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            peak = max(peak, self.server.rss_mib() - self.rss_mib)
            started = time.monotonic()
            self.bystander.get(self.top)
            self.assertLess(time.monotonic() - started, 2.0, "the bystander waited for a slow reader")
        self.assertLess(peak, RSS_MIB_MAX, f"the server grew by {peak:.0f} MiB for eight slow readers")
        # A reader that wakes up gets every answer, whole and in order.
        patient = slow[0]
        patient.sock.settimeout(20)
        for xid in range(1, 41):
            self.bystander.ping()
            reply = patient.next()
            self.assertEqual((reply.xid, reply.err), (xid, 0))
            self.assertEqual(wire.Reader(reply.body).buffer(), self.big)
        for conn in slow:
            conn.close()

    def test_a_watcher_that_reads_nothing_does_not_grow_the_server(self):
        """Twenty thousand events for a connection whose receive window is shut."""
        deaf = self.raw()
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.handshake()
        writer = self.conn()
        name = "w" * 200
        for start in range(0, 20000, 1000):
            paths = [f"{self.top}/{name}{i}" for i in range(start, start + 1000)]
            for path in paths:
                deaf.send(deaf.request(wire.EXISTS, wire.watched(path, True)))
            for _ in paths:
                self.assertEqual(deaf.next().err, wire.NO_NODE)
        for start in range(0, 20000, 1000):
            paths = [f"{self.top}/{name}{i}" for i in range(start, start + 1000)]
            writer.send(b"".join(writer.request(wire.CREATE, wire.create(p)) for p in paths))
            for _ in paths:
                self.assertEqual(writer.next().err, 0)
        self.check_the_others()

    def test_many_requests_in_one_write_are_all_answered(self):
        conn = self.conn()
        count = 20000
        packet = b"".join(conn.request(wire.EXISTS, wire.watched(self.top)) for _ in range(count))
        conn.sock.settimeout(30)
        # Sending and reading in turns, or both sides would wait for a full buffer of the other.
        conn.sock.setblocking(False)
        got, sent = 0, 0
        deadline = time.monotonic() + 30
        pending = b""
        while got < count:
            self.assertLess(time.monotonic(), deadline, f"only {got} of {count} replies came")
            try:
                sent += conn.sock.send(packet[sent : sent + 65536])
            except BlockingIOError:
                pass
            try:
                pending += conn.sock.recv(1 << 18)
            except BlockingIOError:
                continue
            while 4 <= len(pending) and 4 + int.from_bytes(pending[:4], "big") <= len(pending):
                length = int.from_bytes(pending[:4], "big")
                got += 1
                self.assertEqual(int.from_bytes(pending[4:8], "big"), got)
                pending = pending[4 + length :]
