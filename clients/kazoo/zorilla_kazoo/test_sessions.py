"""Sessions and their ephemerals: resume over a restart, expiry, close, wrong passwords."""

import signal
import threading
import time

from kazoo.client import KazooState

from . import wire
from .base import ServerCase
from .wire import Conn, Closed

NOT_VALID = wire.Connected(0, 0, bytes(16), b"\x00")


class Sessions(ServerCase):
    def test_the_timeout_is_negotiated_between_two_and_twenty_ticks(self):
        for asked, given in ((-5, 1000), (0, 1000), (999, 1000), (4321, 4321), (10001, 10000), (2**31 - 1, 10000)):
            conn = self.conn(timeout_ms=asked)
            self.assertEqual(conn.connected.timeout_ms, given)
            conn.end_session()

    def test_the_connect_response_is_fixed_in_shape(self):
        with Conn(self.server.address, handshake=False) as conn:
            conn.send(wire.framed(wire.connect_request()))
            self.assertEqual(len(conn.frame()), 37)
        with Conn(self.server.address, handshake=False) as conn:
            # Clients of release 3.3 do not know the read-only flag, and are not told of it.
            conn.send(wire.framed(wire.connect_request(read_only=b"")))
            self.assertEqual(len(conn.frame()), 36)
            conn.ping()

    def test_the_password_follows_from_the_session_id(self):
        conn = self.conn()
        seed = (conn.connected.session ^ 0xB3415C00 ^ 0x5DEECE66D) & (2**48 - 1)
        password = b""
        for _ in range(4):
            seed = (seed * 0x5DEECE66D + 0xB) & (2**48 - 1)
            password += (seed >> 16 & 0xFFFFFFFF).to_bytes(4, "little")
        self.assertEqual(conn.connected.password, password)

    def test_a_new_session_takes_a_zxid(self):
        first = self.conn()
        before = first.call(wire.PING, xid=wire.XID_PING).zxid
        self.conn()
        self.assertEqual(first.call(wire.PING, xid=wire.XID_PING).zxid, before + 1)

    def test_requests_behind_the_connect_request_wait_for_the_session(self):
        with Conn(self.server.address, handshake=False) as conn:
            conn.send(wire.framed(wire.connect_request()) + conn.request(wire.CREATE, wire.create(self.top)))
            self.assertEqual(conn.read_connected().timeout_ms, 10000)
            self.assertEqual(conn.next().err, 0)

    def test_ephemerals_die_with_closesession_in_one_transaction(self):
        watcher = self.conn()
        watcher.make(self.top)
        owner = self.conn()
        for name in ("a", "b", "c"):
            owner.make(f"{self.top}/{name}", b"e", flags=1)
        self.assertEqual(watcher.stat(f"{self.top}/a").ephemeral_owner, owner.connected.session)
        closed = owner.call(wire.CLOSE_SESSION)
        self.assertEqual(closed.err, 0)
        # Nothing sent after the close is answered.
        owner.assert_closed()
        names, stat = watcher.children(self.top)
        self.assertEqual(names, [])
        self.assertEqual(stat.pzxid, closed.zxid)

    def test_requests_behind_closesession_are_not_answered(self):
        conn = self.conn()
        conn.send(conn.request(wire.CLOSE_SESSION) + conn.request(wire.CREATE, wire.create(self.top)))
        self.assertEqual(conn.next().err, 0)
        conn.assert_closed()
        self.assertIsNone(self.conn().stat(self.top))

    def test_a_lost_connection_keeps_the_ephemerals_until_the_session_expires(self):
        other = self.conn()
        owner = self.conn(timeout_ms=1000)
        owner.make(self.top, flags=1)
        other.stat(self.top, watch=True)
        started = time.monotonic()
        owner.close()
        self.assertIsNotNone(other.stat(self.top))
        event = other.wait_event()
        took = time.monotonic() - started
        self.assertEqual((event.kind, event.path), (wire.NODE_DELETED, self.top))
        # Between the timeout and one tick more, plus what a busy machine adds.
        self.assertGreater(took, 0.9)
        self.assertLess(took, 4.0)
        self.assertIsNone(other.stat(self.top))

    def test_pings_keep_a_session_alive(self):
        conn = self.conn(timeout_ms=1000)
        conn.make(self.top, flags=1)
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            time.sleep(0.25)
            conn.ping()
        self.assertIsNotNone(conn.stat(self.top))

    def test_a_silent_session_expires_without_a_word_and_cannot_be_resumed(self):
        conn = self.conn(timeout_ms=1000)
        started = time.monotonic()
        conn.assert_closed()
        self.assertGreater(time.monotonic() - started, 0.9)
        mine = conn.connected
        again = self.conn(session=mine.session, password=mine.password)
        self.assertEqual(again.connected, NOT_VALID)
        again.assert_closed()

    def test_resume_moves_the_session_to_the_new_connection(self):
        old = self.conn(timeout_ms=5000)
        old.make(self.top, flags=1)
        mine = old.connected
        new = self.conn(timeout_ms=3000, session=mine.session, password=mine.password)
        self.assertEqual(new.connected, mine._replace(timeout_ms=3000))
        old.assert_closed()
        self.assertEqual(new.stat(self.top).ephemeral_owner, mine.session)

    def test_a_resume_takes_no_zxid(self):
        witness = self.conn()
        old = self.conn()
        before = witness.call(wire.PING, xid=wire.XID_PING).zxid
        self.conn(session=old.connected.session, password=old.connected.password)
        self.assertEqual(witness.call(wire.PING, xid=wire.XID_PING).zxid, before)

    def test_a_wrong_password_is_not_valid_and_the_session_lives_on(self):
        owner = self.conn()
        owner.make(self.top, flags=1)
        mine = owner.connected
        for password in (bytes(16), mine.password[:-1] + bytes([mine.password[-1] ^ 1]), b"", None, b"x" * 300):
            with Conn(self.server.address, session=mine.session, password=password) as thief:
                self.assertEqual(thief.connected, NOT_VALID)
                thief.assert_closed()
        again = self.conn(session=mine.session, password=mine.password)
        self.assertEqual(again.connected, mine)
        self.assertIsNotNone(again.stat(self.top))

    def test_an_unknown_session_is_not_valid(self):
        for session in (1, -1, 0x7FFFFFFFFFFFFFFF, -(2**63)):
            with Conn(self.server.address, session=session, password=b"p" * 16) as conn:
                self.assertEqual(conn.connected, NOT_VALID)
                conn.assert_closed()

    def test_a_closed_session_is_not_valid(self):
        conn = self.conn()
        mine = conn.connected
        conn.end_session()
        self.assertEqual(self.conn(session=mine.session, password=mine.password).connected, NOT_VALID)

    def test_a_client_from_the_future_is_turned_away(self):
        with Conn(self.server.address, handshake=False) as conn:
            conn.send(wire.framed(wire.connect_request(last_zxid=1 << 40)))
            conn.assert_closed()

    def test_kazoo_ends_its_session_on_stop(self):
        client = self.kazoo()
        client.create(self.top, ephemeral=True)
        client.stop()
        self.assertIsNone(self.kazoo().exists(self.top))

    def test_kazoo_sees_an_expired_session_as_lost_and_starts_a_new_one(self):
        client = self.kazoo(timeout=1.0)
        states = []
        client.add_listener(states.append)
        client.create(self.top, ephemeral=True)
        before = client.client_id[0]
        # A stopped server process would expire nobody, so the session is closed from another connection: for the
        # client this is the same, its connection ends and its resume is "not valid".
        with Conn(self.server.address, session=client.client_id[0], password=client.client_id[1]) as thief:
            thief.call(wire.CLOSE_SESSION)
        self.eventually(lambda: KazooState.LOST in states and client.connected, "a new session after LOST")
        self.assertNotEqual(client.client_id[0], before)
        self.assertIsNone(client.exists(self.top))

    def test_many_sessions_at_once(self):
        conns = [self.conn() for _ in range(300)]
        self.assertEqual(len({c.connected.session for c in conns}), 300)
        for conn in conns:
            conn.ping()
        for conn in conns:
            conn.end_session()


class Restart(ServerCase):
    """Each test gets the server back running, and restarts it in its own way."""

    def restart(self, how):
        if how == signal.SIGKILL:
            self.server.kill()
        else:
            self.server.stop()
        self.server.start()

    def check_kazoo_keeps_its_session(self, how):
        client = self.kazoo(timeout=8.0)
        states = []
        client.add_listener(states.append)
        client.create(self.top, b"kept")
        client.create(f"{self.top}/mine", b"e", ephemeral=True)
        seen_data, seen_children = [], []
        client.DataWatch(self.top)(lambda data, stat: seen_data.append(data))
        client.ChildrenWatch(self.top)(lambda names: seen_children.append(sorted(names)))
        identity, stat = client.client_id, client.exists(self.top)
        self.restart(how)
        self.eventually(lambda: KazooState.CONNECTED in states, "connected again")
        self.assertNotIn(KazooState.LOST, states)
        self.assertEqual(client.client_id, identity)
        self.assertEqual(client.get(self.top), (b"kept", stat._replace()))
        self.assertEqual(client.exists(f"{self.top}/mine").ephemeralOwner, identity[0])
        # kazoo arms its watches again by reading again; both must fire on changes made after the restart.
        other = self.kazoo()
        other.set(self.top, b"after")
        other.create(f"{self.top}/other")
        self.eventually(lambda: seen_data[-1] == b"after", "the data watch after the restart")
        self.eventually(lambda: seen_children[-1] == ["mine", "other"], "the child watch after the restart")
        client.stop()
        self.assertEqual(other.get_children(self.top), ["other"])

    def test_kazoo_keeps_its_session_over_kill(self):
        self.check_kazoo_keeps_its_session(signal.SIGKILL)

    def test_kazoo_keeps_its_session_over_sigterm(self):
        self.check_kazoo_keeps_its_session(signal.SIGTERM)

    def check_everything_acknowledged_is_there(self, how):
        conn = self.conn(timeout_ms=8000)
        conn.make(self.top, b"top")
        conn.make(f"{self.top}/kept", None)
        for i in range(20):
            conn.put(f"{self.top}/kept", b"v%d" % i, version=i)
        conn.make(f"{self.top}/gone")
        conn.drop(f"{self.top}/gone")
        names = [conn.make(f"{self.top}/s-", flags=2) for _ in range(3)]
        conn.make(f"{self.top}/e", b"", flags=1)
        closed = self.conn()
        closed.make(f"{self.top}/dead", flags=1)
        closed.end_session()
        conn.ping()
        paths = [self.top, f"{self.top}/kept", f"{self.top}/e", *names]
        before = {path: conn.get(path) for path in paths}
        listing, last = conn.children(self.top), conn.last_zxid
        mine = conn.connected
        self.restart(how)
        conn = self.conn(session=mine.session, password=mine.password, last_zxid=last, timeout_ms=8000)
        self.assertEqual(conn.connected, mine)
        self.assertEqual({path: conn.get(path) for path in paths}, before)
        self.assertEqual(conn.children(self.top), listing)
        self.assertIsNone(conn.stat(f"{self.top}/dead"))
        self.assertGreaterEqual(conn.last_zxid, last)
        self.assertEqual(conn.make(f"{self.top}/s-", flags=2), f"{self.top}/s-0000000007")
        self.assertGreater(conn.last_zxid, last)
        again = self.conn(session=closed.connected.session, password=closed.connected.password)
        self.assertEqual(again.connected, NOT_VALID)

    def test_everything_acknowledged_survives_kill(self):
        self.check_everything_acknowledged_is_there(signal.SIGKILL)

    def test_everything_acknowledged_survives_sigterm(self):
        self.check_everything_acknowledged_is_there(signal.SIGTERM)

    def test_sigterm_answers_what_is_in_flight_or_nothing_at_all(self):
        conn = self.conn()
        conn.make(self.top)
        answered = []

        def load():
            try:
                while True:
                    answered.append(conn.make(f"{self.top}/n-", flags=2))
            except (Closed, OSError):
                pass

        thread = threading.Thread(target=load)
        thread.start()
        time.sleep(0.5)
        self.server.stop()
        thread.join(20)
        self.assertFalse(thread.is_alive(), "the server ended and left a client waiting")
        self.server.start()
        names = self.conn().children(self.top)[0]
        self.assertGreater(len(answered), 10)
        # The one request in flight may have been done without an answer, no more than that.
        self.assertLessEqual(set(answered), {f"{self.top}/{n}" for n in names})
        self.assertLessEqual(len(names), len(answered) + 1)

    def test_a_session_nobody_resumes_expires_after_the_restart(self):
        owner = self.conn(timeout_ms=1500)
        owner.make(self.top, flags=1)
        self.restart(signal.SIGKILL)
        started = time.monotonic()
        other = self.conn()
        self.assertIsNotNone(other.stat(self.top, watch=True))
        self.assertEqual(other.wait_event().kind, wire.NODE_DELETED)
        self.assertLess(time.monotonic() - started, 6.0)

    def test_watches_are_gone_after_a_restart_until_set_again(self):
        conn = self.conn(timeout_ms=8000)
        for name in ("", "/same", "/changed", "/deleted", "/folder", "/still"):
            conn.make(self.top + name)
        conn.ping()
        base, mine = conn.last_zxid, conn.connected
        self.server.kill()
        self.server.start()
        writer = self.conn()
        writer.put(f"{self.top}/changed", b"new")
        writer.drop(f"{self.top}/deleted")
        writer.make(f"{self.top}/folder/x")
        writer.make(f"{self.top}/born")
        conn = self.conn(session=mine.session, password=mine.password, last_zxid=base)
        body = wire.set_watches(
            base,
            data=[f"{self.top}/same", f"{self.top}/changed", f"{self.top}/deleted"],
            exist=[f"{self.top}/born", f"{self.top}/unborn"],
            child=[f"{self.top}/folder", f"{self.top}/still"],
        )
        self.assertEqual(conn.call(wire.SET_WATCHES, body, xid=wire.XID_SET_WATCHES).err, 0)
        self.assertEqual(
            [(e.zxid, e.kind, e.path.removeprefix(self.top)) for e in conn.events],
            [
                (-1, wire.NODE_DATA_CHANGED, "/changed"),
                (-1, wire.NODE_DELETED, "/deleted"),
                (-1, wire.NODE_CREATED, "/born"),
                (-1, wire.NODE_CHILDREN_CHANGED, "/folder"),
            ],
        )
        conn.events.clear()
        # What was not told is armed.
        writer.put(f"{self.top}/same", b"now")
        self.assertEqual(conn.wait_event().path, f"{self.top}/same")
        writer.make(f"{self.top}/unborn")
        self.assertEqual(conn.wait_event().path, f"{self.top}/unborn")
        writer.make(f"{self.top}/still/x")
        self.assertEqual(conn.wait_event().path, f"{self.top}/still")
        # What was told is not.
        writer.put(f"{self.top}/changed", b"newer")
        writer.make(f"{self.top}/folder/y")
        conn.ping()
        self.assertEqual(conn.events, [])
