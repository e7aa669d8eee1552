"""Watches: what fires, once, in which order, and the raw frames of setWatches."""

import queue

from kazoo.protocol.states import EventType

from . import wire
from .base import ServerCase


class KazooWatches(ServerCase):
    def setUp(self):
        super().setUp()
        self.seen = queue.Queue()
        self.reader, self.writer = self.kazoo(), self.kazoo()

    def fired(self):
        event = self.seen.get(timeout=10)
        return event.type, event.path

    def quiet(self):
        """True when no event is on its way: the reply to a sync comes behind every earlier event."""
        self.reader.sync("/")
        return self.seen.empty()

    def test_a_data_watch_fires_on_change_once(self):
        self.writer.create(self.top)
        self.reader.get(self.top, watch=self.seen.put)
        self.writer.set(self.top, b"1")
        self.writer.set(self.top, b"2")
        self.assertEqual(self.fired(), (EventType.CHANGED, self.top))
        self.assertTrue(self.quiet())

    def test_a_data_watch_fires_on_deletion(self):
        self.writer.create(self.top)
        self.reader.get(self.top, watch=self.seen.put)
        self.writer.delete(self.top)
        self.assertEqual(self.fired(), (EventType.DELETED, self.top))

    def test_an_exists_watch_fires_on_creation(self):
        self.assertIsNone(self.reader.exists(self.top, watch=self.seen.put))
        self.writer.create(self.top)
        self.assertEqual(self.fired(), (EventType.CREATED, self.top))

    def test_an_exists_watch_on_a_znode_fires_on_change(self):
        self.writer.create(self.top)
        self.assertIsNotNone(self.reader.exists(self.top, watch=self.seen.put))
        self.writer.set(self.top, b"")
        self.assertEqual(self.fired(), (EventType.CHANGED, self.top))

    def test_a_child_watch_fires_on_create_and_delete_of_children_only(self):
        self.writer.create(self.top)
        self.writer.create(f"{self.top}/a")
        self.reader.get_children(self.top, watch=self.seen.put)
        self.writer.set(self.top, b"data")
        self.writer.set(f"{self.top}/a", b"data")
        self.writer.create(f"{self.top}/a/deep")
        self.assertTrue(self.quiet())
        self.writer.create(f"{self.top}/b")
        self.assertEqual(self.fired(), (EventType.CHILD, self.top))
        self.reader.get_children(self.top, watch=self.seen.put)
        self.writer.delete(f"{self.top}/b")
        self.assertEqual(self.fired(), (EventType.CHILD, self.top))

    def test_a_child_watch_on_the_root(self):
        self.reader.get_children("/", watch=self.seen.put)
        self.writer.create(self.top)
        self.assertEqual(self.fired(), (EventType.CHILD, "/"))

    def test_a_data_watch_does_not_fire_for_children(self):
        self.writer.create(self.top)
        self.reader.get(self.top, watch=self.seen.put)
        self.writer.create(f"{self.top}/a")
        self.writer.delete(f"{self.top}/a")
        self.assertTrue(self.quiet())

    def test_recipes_follow_many_changes(self):
        self.writer.create(self.top, b"0")
        values = []
        self.reader.DataWatch(self.top)(lambda data, stat: values.append(data))
        for i in range(1, 101):
            self.writer.set(self.top, b"%d" % i)
        self.eventually(lambda: values and values[-1] == b"100", "the last value")
        numbers = [int(v) for v in values]
        self.assertEqual(numbers, sorted(set(numbers)))

    def test_locks_hand_over_by_watches(self):
        """kazoo's lock recipe: ephemeral sequential znodes, each waiting for the one before it."""
        order, clients = [], [self.kazoo() for _ in range(4)]
        first = clients[0].Lock(f"{self.top}/lock", "0")
        first.acquire(timeout=10)
        waiting = []
        for client in clients[1:]:
            lock = client.Lock(f"{self.top}/lock", "x")

            def take(lock=lock):
                lock.acquire(timeout=20)
                order.append(lock)
                lock.release()

            waiting.append(client.handler.spawn(take))
        self.eventually(lambda: len(first.contenders()) == 4, "four contenders")
        self.assertEqual(order, [])
        first.release()
        for thread in waiting:
            thread.join(20)
        self.assertEqual(len(order), 3)


class RawWatches(ServerCase):
    def events(self, conn):
        """Everything that has fired so far, as (kind, path below the test's folder)."""
        conn.ping()
        found = [(e.kind, e.path.removeprefix(self.top)) for e in conn.events]
        conn.events.clear()
        return found

    def test_the_event_of_the_own_write_comes_before_its_reply(self):
        conn = self.conn()
        conn.stat(self.top, watch=True)
        conn.send(conn.request(wire.CREATE, wire.create(self.top, b"hello")))
        event = wire.event_of(conn.next())
        reply = conn.next()
        self.assertEqual(event, wire.Event(reply.zxid, wire.NODE_CREATED, 3, self.top))
        self.assertEqual((reply.xid, reply.err), (conn.last_xid, 0))

    def test_deletion_gives_one_event_for_all_watches_of_the_znode_then_the_parents(self):
        watcher, writer = self.conn(), self.conn()
        writer.make(self.top)
        writer.make(f"{self.top}/n")
        watcher.get(f"{self.top}/n", watch=True)
        watcher.stat(f"{self.top}/n", watch=True)
        watcher.children(f"{self.top}/n", watch=True)
        watcher.children(self.top, watch=True)
        writer.drop(f"{self.top}/n")
        self.assertEqual(
            self.events(watcher), [(wire.NODE_DELETED, "/n"), (wire.NODE_CHILDREN_CHANGED, "")]
        )
        # The child watch of the deleted znode went with it: its rebirth is news for nobody.
        writer.make(f"{self.top}/n")
        writer.make(f"{self.top}/n/x")
        self.assertEqual(self.events(watcher), [])

    def test_reads_of_missing_znodes_register_nothing(self):
        watcher, writer = self.conn(), self.conn()
        self.assertEqual(watcher.call(wire.GET_DATA, wire.watched(self.top, True)).err, wire.NO_NODE)
        self.assertEqual(watcher.call(wire.GET_CHILDREN, wire.watched(self.top, True)).err, wire.NO_NODE)
        writer.make(self.top)
        writer.make(f"{self.top}/x")
        self.assertEqual(self.events(watcher), [])

    def test_failed_writes_fire_nothing(self):
        watcher, writer = self.conn(), self.conn()
        writer.make(self.top)
        watcher.get(self.top, watch=True)
        watcher.children(self.top, watch=True)
        self.assertNotEqual(writer.call(wire.SET_DATA, wire.set_data(self.top, b"", 7)).err, 0)
        self.assertNotEqual(writer.call(wire.DELETE, wire.delete(self.top, 7)).err, 0)
        self.assertNotEqual(writer.call(wire.CREATE, wire.create(self.top)).err, 0)
        self.assertEqual(self.events(watcher), [])

    def test_watches_belong_to_the_connection(self):
        first = self.conn()
        first.make(self.top)
        first.get(self.top, watch=True)
        mine = first.connected
        second = self.conn(session=mine.session, password=mine.password)
        second.put(self.top, b"x")
        self.assertEqual(self.events(second), [])

    def test_the_end_of_a_session_fires_for_each_of_its_ephemerals_with_one_zxid(self):
        watcher, owner = self.conn(), self.conn()
        watcher.make(self.top)
        for name in ("a", "b"):
            owner.make(f"{self.top}/{name}", flags=1)
            watcher.get(f"{self.top}/{name}", watch=True)
        closed = owner.call(wire.CLOSE_SESSION)
        watcher.ping()
        self.assertEqual({e.zxid for e in watcher.events}, {closed.zxid})
        self.assertEqual(sorted(self.events(watcher)), [(wire.NODE_DELETED, "/a"), (wire.NODE_DELETED, "/b")])

    def test_ten_thousand_watches_fire_in_order(self):
        watcher, writer = self.conn(), self.conn()
        writer.make(self.top)
        count, part = 10000, 500
        for start in range(0, count, part):
            paths = [f"{self.top}/{i}" for i in range(start, start + part)]
            watcher.send(b"".join(watcher.request(wire.EXISTS, wire.watched(p, True)) for p in paths))
            for _ in paths:
                self.assertEqual(watcher.next().err, wire.NO_NODE)
        for start in range(0, count, part):
            paths = [f"{self.top}/{i}" for i in range(start, start + part)]
            writer.send(b"".join(writer.request(wire.CREATE, wire.create(p)) for p in paths))
            for _ in paths:
                self.assertEqual(writer.next().err, 0)
        found = self.events(watcher)
        self.assertEqual(found, [(wire.NODE_CREATED, f"/{i}") for i in range(count)])

    def test_setwatches_frames_byte_by_byte(self):
        """The exchange of the protocol description: a changed znode, relative zxid 1, xid -8."""
        conn = self.conn()
        conn.make("/a")
        request = bytes.fromhex("00000022 fffffff8 00000065 0000000000000001 00000001 00000002 2f61 00000000 00000000")
        self.assertEqual(conn.request(wire.SET_WATCHES, wire.set_watches(1, ["/a"]), xid=-8), request)
        conn.send(request)
        event = bytes.fromhex("ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f61")
        self.assertEqual(conn.frame(), event)
        reply = wire.Reader(conn.frame())
        self.assertEqual((reply.i32(), reply.i64(), reply.i32(), reply.rest), (-8, conn.last_zxid, 0, b""))

    def test_setwatches_table(self):
        conn, writer = self.conn(), self.conn()
        writer.make(self.top)
        writer.make(f"{self.top}/d")
        conn.ping()
        now = conn.call(wire.SYNC, wire.text("/")).zxid
        old = now - 1

        def told(relative, **lists):
            full = {kind: [self.top + p for p in paths] for kind, paths in lists.items()}
            self.assertEqual(conn.call(wire.SET_WATCHES, wire.set_watches(relative, **full)).err, 0)
            self.assertEqual({e.zxid for e in conn.events} - {-1}, set())
            return self.events(conn)

        self.assertEqual(told(now, data=["/d"]), [])
        self.assertEqual(told(old, data=["/d"]), [(wire.NODE_DATA_CHANGED, "/d")])
        self.assertEqual(told(now, exist=["/d"]), [(wire.NODE_CREATED, "/d")])
        self.assertEqual(told(now, child=["/d"]), [])
        self.assertEqual(told(old, child=["/d"]), [(wire.NODE_CHILDREN_CHANGED, "/d")])
        # Nothing is merged: a missing znode in two lists is told twice.
        self.assertEqual(
            told(now, data=["/no"], child=["/no"], exist=["/no"]),
            [(wire.NODE_DELETED, "/no"), (wire.NODE_DELETED, "/no")],
        )
        # From the calls above, armed are: data and child watches of /d, and an exist watch of /no.
        writer.make(f"{self.top}/no")
        self.assertEqual(self.events(conn), [(wire.NODE_CREATED, "/no")])
        writer.drop(f"{self.top}/d")
        self.assertEqual(self.events(conn), [(wire.NODE_DELETED, "/d")])

    def test_setwatches_with_a_null_list_is_a_marshalling_error(self):
        conn = self.conn()
        reply = conn.call(wire.SET_WATCHES, wire.i64(0) + wire.vector(None) + wire.vector(()) + wire.vector(()))
        self.assertEqual(reply.err, wire.MARSHALLING)
        conn.ping()

    def test_setwatches_with_many_paths(self):
        conn, writer = self.conn(), self.conn()
        writer.make(self.top)
        paths = [f"{self.top}/{i}" for i in range(3000)]
        now = conn.call(wire.SYNC, wire.text("/")).zxid
        self.assertEqual(conn.call(wire.SET_WATCHES, wire.set_watches(now, data=paths)).err, 0)
        self.assertEqual(self.events(conn), [(wire.NODE_DELETED, f"/{i}") for i in range(3000)])
