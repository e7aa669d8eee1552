"""Pipelined scripts: many requests in one packet, and the server's answers written down as text.

The text leaves out only what two servers cannot share: zxids count from the zxid before the script, times and session
ids become words. So a transcript of the Java server can be kept in a file and compared line by line.
"""

import time

from . import wire
from .wire import Conn, Reader

TIME_SLACK_MS = 120_000

PATH_REPLY = (wire.CREATE, wire.SYNC)
STAT_REPLY = (wire.SET_DATA, wire.EXISTS)
NAMES = {
    wire.CREATE: "create", wire.DELETE: "delete", wire.EXISTS: "exists", wire.GET_DATA: "getData",
    wire.SET_DATA: "setData", wire.GET_CHILDREN: "getChildren", wire.SYNC: "sync", wire.PING: "ping",
    wire.GET_CHILDREN2: "getChildren2", wire.CREATE2: "create2", wire.CLOSE_SESSION: "closeSession",
    wire.SET_WATCHES: "setWatches",
}
EVENTS = {1: "NodeCreated", 2: "NodeDeleted", 3: "NodeDataChanged", 4: "NodeChildrenChanged"}


def _order(watch):
    """The order test proper: every read must see exactly the writes before it."""
    return [
        (wire.CREATE, wire.create("/order", b"one")),
        (wire.GET_DATA, wire.watched("/order", watch)),
        (wire.SET_DATA, wire.set_data("/order", b"two", 0)),
        (wire.GET_DATA, wire.watched("/order", watch)),
        (wire.SET_DATA, wire.set_data("/order", b"three", 1)),
        (wire.GET_DATA, wire.watched("/order", watch)),
        (wire.DELETE, wire.delete("/order", 2)),
        (wire.GET_DATA, wire.watched("/order", watch)),
    ]


# Each script runs on a connection of its own, all on one server, one after the other.
SCRIPTS = {
    "create get set get set get delete get": _order(watch=False),
    "the same with a watch in every read": _order(watch=True),
    "errors among writes": [
        (wire.CREATE, wire.create("/e", b"")),
        (wire.SET_DATA, wire.set_data("/e", b"x", 7)),
        (wire.GET_DATA, wire.watched("/e")),
        (wire.CREATE, wire.create("/e", b"again")),
        (wire.CREATE, wire.create("/e/x/y")),
        (wire.DELETE, wire.delete("/e", 1)),
        (wire.SET_DATA, wire.set_data("/e", None, 0)),
        (wire.GET_DATA, wire.watched("/e")),
        (wire.CREATE, wire.create("/e", acls=())),
        (wire.CREATE, wire.create("e")),
        (wire.DELETE, wire.delete("/")),
        (wire.CREATE, wire.create("/e/f", flags=1)),
        (wire.CREATE, wire.create("/e/f/g")),
        (wire.DELETE, wire.delete("/e")),
        (wire.DELETE, wire.delete("/e/f", 0)),
        (wire.DELETE, wire.delete("/e", 1)),
        (wire.EXISTS, wire.watched("/e")),
        (wire.SYNC, wire.text("/e")),
    ],
    "children and sequences": [
        (wire.CREATE, wire.create("/c")),
        (wire.CREATE, wire.create("/c/s-", b"a", 2)),
        (wire.CREATE2, wire.create("/c/s-", b"ab", 3)),
        (wire.GET_CHILDREN2, wire.watched("/c")),
        (wire.DELETE, wire.delete("/c/s-0000000000")),
        (wire.CREATE, wire.create("/c/s-0000000003")),
        (wire.CREATE, wire.create("/c/s-", b"", 2)),
        (wire.CREATE, wire.create("/c/", b"", 2)),
        (wire.CREATE, wire.create("/c/plain", b"", 0)),
        (wire.CREATE2, wire.create("/c/t-", None, 2)),
        (wire.GET_CHILDREN, wire.watched("/c")),
        (wire.EXISTS, wire.watched("/c")),
        (wire.GET_CHILDREN2, wire.watched("/c/s-0000000001")),
        (wire.PING, b""),
    ],
    "watches among writes": [
        (wire.EXISTS, wire.watched("/w", True)),
        (wire.CREATE, wire.create("/w")),
        (wire.GET_CHILDREN, wire.watched("/w", True)),
        (wire.GET_DATA, wire.watched("/w", True)),
        (wire.CREATE, wire.create("/w/a", b"", 1)),
        (wire.CREATE, wire.create("/w/b", b"", 1)),
        (wire.GET_CHILDREN2, wire.watched("/w", True)),
        (wire.SET_DATA, wire.set_data("/w", b"x")),
        (wire.EXISTS, wire.watched("/w", True)),
        (wire.EXISTS, wire.watched("/w/a", True)),
        (wire.GET_CHILDREN, wire.watched("/w/a", True)),
        (wire.DELETE, wire.delete("/w/a")),
        (wire.DELETE, wire.delete("/w/b")),
        (wire.DELETE, wire.delete("/w")),
        (wire.EXISTS, wire.watched("/w", True)),
        (wire.CREATE, wire.create("/w")),
        (wire.DELETE, wire.delete("/w")),
    ],
    "marshalling errors keep the connection": [
        (wire.CREATE, wire.create("/m")),
        (wire.GET_DATA, b"\x00\x00\x00\x09/m"),
        (wire.GET_DATA, wire.watched(None)),
        (wire.SET_DATA, wire.text("/m")),
        (wire.CREATE, wire.text("/m2") + wire.buffer(b"") + wire.vector(None) + wire.i32(0)),
        (wire.SET_DATA, wire.set_data(None, b"")),
        (wire.GET_DATA, wire.watched("/m") + b"trailing bytes"),
        (wire.DELETE, wire.delete("/m") + b"\xff"),
        (wire.SYNC, wire.text(None)),
    ],
    "an ephemeral and the end of its session": [
        (wire.CREATE, wire.create("/x", b"", 1)),
        (wire.GET_DATA, wire.watched("/x", True)),
        (wire.CLOSE_SESSION, b""),
    ],
}


def run(address, script):
    """Sends the whole script as one packet and returns its transcript, a line for each frame."""
    with Conn(address) as conn:
        base = conn.call(wire.SYNC, wire.text("/")).zxid
        conn.last_xid = 0
        conn.send(b"".join(conn.request(op, body) for op, body in script))
        scribe = _Scribe(base, conn.connected.session)
        lines = []
        for op, _ in script:
            while (reply := conn.next()).xid == wire.XID_NOTIFICATION:
                event = wire.event_of(reply)
                lines.append(f"  event {EVENTS[event.kind]} {event.path} state {event.state} {scribe.zxid(event.zxid)}")
            lines.append(f"  {NAMES[op]} xid {reply.xid} {scribe.zxid(reply.zxid)} err {reply.err}{scribe.body(op, reply)}")
        if script[-1][0] == wire.CLOSE_SESSION:
            conn.assert_closed()
            lines.append("  closed")
        else:
            conn.end_session()
    return lines


class _Scribe:
    def __init__(self, base, session):
        self.base = base
        self.session = session

    def zxid(self, value):
        return f"zxid +{value - self.base}" if self.base <= value else f"zxid {value}"

    def _number(self, value):
        """A zxid inside a Stat: relative, unless it is from before the script (the root has zxid 0)."""
        return f"+{value - self.base}" if self.base <= value else str(value)

    def _time(self, value):
        return "now" if abs(value - time.time() * 1000) < TIME_SLACK_MS else str(value)

    def _stat(self, stat):
        owner = "mine" if stat.ephemeral_owner == self.session else hex(stat.ephemeral_owner)
        return (
            f" czxid {self._number(stat.czxid)} mzxid {self._number(stat.mzxid)} pzxid {self._number(stat.pzxid)}"
            f" ctime {self._time(stat.ctime)} mtime {self._time(stat.mtime)} version {stat.version}"
            f" cversion {stat.cversion} aversion {stat.aversion} owner {owner}"
            f" bytes {stat.data_length} children {stat.num_children}"
        )

    def body(self, op, reply):
        fields = Reader(reply.body)
        if reply.err != 0:
            text = ""
        elif op in PATH_REPLY:
            text = f" path {fields.text()}"
        elif op == wire.CREATE2:
            text = f" path {fields.text()}{self._stat(fields.stat())}"
        elif op in STAT_REPLY:
            text = self._stat(fields.stat())
        elif op == wire.GET_DATA:
            text = f" data {fields.buffer()}{self._stat(fields.stat())}"
        elif op == wire.GET_CHILDREN:
            text = f" names {sorted(fields.texts())}"
        elif op == wire.GET_CHILDREN2:
            text = f" names {sorted(fields.texts())}{self._stat(fields.stat())}"
        else:
            text = ""
        fields.end()
        return text


def transcript(address):
    """All scripts in their order."""
    lines = []
    for name, script in SCRIPTS.items():
        lines += [name, *run(address, script)]
    return lines
