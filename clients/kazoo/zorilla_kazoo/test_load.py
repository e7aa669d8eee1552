"""Event before data, under load from many connections on two workers.

Watchers read in a pipeline and hold a watch all the time; writers on other connections change what they watch. Checked
on every frame of every watcher: a reply never shows a change whose event has not come yet, the header zxid never
falls, a watch fires once, and the event carries the zxid of the *first* change after the registration. At the end each
reply is compared with the whole history of writes: no reply may claim a zxid newer than the state it shows.
"""

import bisect
import os
import random
import selectors
import time
from collections import defaultdict, deque

from . import wire
from .base import ServerCase

WATCHERS, WRITERS, ZNODES, READS_IN_FLIGHT = 48, 12, 16, 12
SECONDS = float(os.environ.get("LOAD_SECONDS", "6"))


class _Pipelined:
    """A connection driven by the selector: what to send next and what to make of each frame is the subclass's."""

    def __init__(self, conn):
        self.conn = conn
        self.conn.sock.setblocking(False)
        self.unsent = b""
        self.received = b""
        self.expected = deque()  # One entry for each request in flight: (xid, what the subclass wants to remember).
        self.zxid = 0

    def ask(self, op, body, memo):
        self.unsent += self.conn.request(op, body)
        self.expected.append((self.conn.last_xid, memo))

    def flush(self):
        if self.unsent:
            try:
                self.unsent = self.unsent[self.conn.sock.send(self.unsent) :]
            except BlockingIOError:
                pass

    def readable(self):
        try:
            part = self.conn.sock.recv(1 << 18)
        except BlockingIOError:
            return
        assert part, "the server closed a connection under load"
        self.received += part
        at = 0
        while 4 <= len(self.received) - at:
            length = int.from_bytes(self.received[at : at + 4], "big")
            if len(self.received) - at < 4 + length:
                break
            fields = wire.Reader(self.received[at + 4 : at + 4 + length])
            self.take(wire.Reply(fields.i32(), fields.i64(), fields.i32(), fields.rest))
            at += 4 + length
        self.received = self.received[at:]

    def take(self, reply):
        if reply.xid == wire.XID_NOTIFICATION:
            self.event(wire.event_of(reply))
            return
        xid, memo = self.expected.popleft()
        assert reply.xid == xid, f"a reply with xid {reply.xid} came where {xid} was due"
        assert self.zxid <= reply.zxid, f"the header zxid fell from {self.zxid} to {reply.zxid}"
        self.zxid = reply.zxid
        self.reply(reply, memo)


class _Writer(_Pipelined):
    def __init__(self, conn, random_source, history, stop):
        super().__init__(conn)
        self.random = random_source
        self.history = history
        self.stop = stop
        self.writes = 0

    def fill(self):
        while len(self.expected) < 4 and not self.stop():
            n = self.random.randrange(ZNODES)
            kind = self.random.choice(("data", "data", "child", "flip"))
            if kind == "data":
                self.ask(wire.SET_DATA, wire.set_data(f"/load/data-{n}", self.random.randbytes(40)), (kind, n))
            elif kind == "child":
                self.ask(wire.CREATE, wire.create(f"/load/child-{n}/c-", flags=2), (kind, n))
            elif self.random.random() < 0.5:
                self.ask(wire.CREATE, wire.create(f"/load/flip-{n}"), (kind, n))
            else:
                self.ask(wire.DELETE, wire.delete(f"/load/flip-{n}"), (kind, n))

    def reply(self, reply, memo):
        kind, n = memo
        if reply.err:
            assert kind == "flip" and reply.err in (wire.NODE_EXISTS, wire.NO_NODE), f"{kind} failed with {reply.err}"
            return
        self.writes += 1
        self.history[f"/load/{kind}-{n}"].append(reply.zxid)

    def event(self, event):
        raise AssertionError(f"a writer that holds no watch got {event}")


class _Watcher(_Pipelined):
    """Watches one thing. `armed` is what the registration saw, None while no watch is held."""

    OPS = {"data": wire.GET_DATA, "child": wire.GET_CHILDREN2, "flip": wire.EXISTS}

    def __init__(self, conn, kind, n, stop):
        super().__init__(conn)
        self.kind = kind
        self.path = f"/load/{kind}-{n}"
        self.stop = stop
        self.armed = None  # (the change, the header zxid)
        self.registering = False
        self.reads = 0
        self.fired = []  # (the newest zxid the registration is known to have seen, zxid of the event)
        self.shown = []  # (header zxid, zxid of the change the reply shows), where the reply can tell

    def fill(self):
        if self.stop():
            return
        while len(self.expected) < READS_IN_FLIGHT:
            register = self.armed is None and not self.registering
            self.registering |= register
            self.ask(self.OPS[self.kind], wire.watched(self.path, register), register)

    def _seen(self, reply):
        """The zxid of the last change this reply shows; 0 where the reply cannot tell (a znode that is not there)."""
        if reply.err:
            assert self.kind == "flip" and reply.err == wire.NO_NODE, f"a read failed with {reply.err}"
            return 0
        fields = wire.Reader(reply.body)
        if self.kind == "data":
            fields.buffer()
            return fields.stat().mzxid
        if self.kind == "child":
            fields.texts()
            return fields.stat().pzxid
        return fields.stat().czxid

    def reply(self, reply, registered):
        seen = self._seen(reply)
        self.reads += 1
        if reply.err == 0:
            self.shown.append((reply.zxid, seen))
        if registered:
            self.armed, self.registering = (seen, reply.zxid), False
        elif self.armed is not None:
            # The whole point: while the watch has not fired, every reply shows what the registration saw.
            assert seen == self.armed[0], (
                f"{self.path}: a reply shows change {seen:#x} before the event; the watch saw {self.armed[0]:#x}"
            )

    def event(self, event):
        assert event.path == self.path, f"watching {self.path}, told of {event.path}"
        assert self.armed is not None, f"{self.path}: an event without a watch"
        assert self.zxid < event.zxid, f"{self.path}: event {event.zxid:#x} is older than the reply before it"
        self.fired.append((max(self.armed), event.zxid))
        self.armed = None


class EventBeforeData(ServerCase):
    extra = ("zorilla.workers=2",)

    def test_a_watcher_never_reads_new_data_before_the_event(self):
        seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
        print(f"seed {seed} (SEED={seed} repeats the writers' choices)", flush=True)
        setup = self.conn()
        setup.make("/load")
        for n in range(ZNODES):
            setup.make(f"/load/data-{n}")
            setup.make(f"/load/child-{n}")
        deadline = time.monotonic() + SECONDS
        history = defaultdict(list)

        def stop():
            return deadline < time.monotonic()

        writers = [_Writer(self.conn(), random.Random(seed + i), history, stop) for i in range(WRITERS)]
        kinds = ("data", "child", "flip")
        watchers = [_Watcher(self.conn(), kinds[i % 3], i // 3 % ZNODES, stop) for i in range(WATCHERS)]
        self.drive([*writers, *watchers], deadline)

        fired = sum(len(w.fired) for w in watchers)
        reads = sum(w.reads for w in watchers)
        writes = sum(w.writes for w in writers)
        print(f"{writes} writes, {reads} reads, {fired} events", flush=True)
        self.assertGreater(fired, 1000)
        self.check_history(watchers, history)

    def drive(self, everyone, deadline):
        with selectors.DefaultSelector() as selector:
            for one in everyone:
                selector.register(one.conn.sock, selectors.EVENT_READ, one)
                one.fill()
                one.flush()
            while any(one.expected for one in everyone):
                self.assertLess(time.monotonic(), deadline + 20, "a reply is missing")
                for key, _ in selector.select(0.05):
                    key.data.readable()
                for one in everyone:
                    one.fill()
                    one.flush()

    def check_history(self, watchers, history):
        for path, zxids in history.items():
            self.assertEqual(len(zxids), len(set(zxids)), f"{path}: two writes have one zxid")
            zxids.sort()
        for watcher in watchers:
            changes = history[watcher.path]
            for saw, event in watcher.fired:
                self.assertIn(event, changes, f"{watcher.path}: an event for {event:#x}, which changed nothing")
                first = changes[bisect.bisect_right(changes, saw)]
                self.assertEqual(event, first, f"{watcher.path}: the watch saw {saw:#x} and skipped a change")
            for header, seen in watcher.shown:
                position = bisect.bisect_right(changes, header)
                newest = changes[position - 1] if position else 0
                self.assertLessEqual(newest, seen, f"{watcher.path}: a reply claims {header:#x}, shows {seen:#x}")
