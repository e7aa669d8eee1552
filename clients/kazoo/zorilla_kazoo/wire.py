"""The client protocol with nothing hidden: frames in, frames out, on one blocking socket.

Knows how to encode what the tests send and to decode what they look at. It never reconnects, never pings, never
retries: a test sees exactly what the server did.
"""

import socket
import struct
from collections import namedtuple

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL = 1, 2, 3, 4, 5, 6, 7
GET_CHILDREN, SYNC, PING, GET_CHILDREN2, CHECK, MULTI, CREATE2 = 8, 9, 11, 12, 13, 14, 15
RECONFIG, CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER, CREATE_TTL, MULTI_READ = 16, 17, 18, 19, 21, 22
SET_WATCHES, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2 = 101, 103, 104, 105
ADD_WATCH, WHO_AM_I, CLOSE_SESSION = 106, 107, -11

OK, MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS = 0, -5, -6, -8
NO_NODE, BAD_VERSION, NO_CHILDREN_FOR_EPHEMERALS, NODE_EXISTS, NOT_EMPTY, INVALID_ACL = -101, -103, -108, -110, -111, -114
NODE_CREATED, NODE_DELETED, NODE_DATA_CHANGED, NODE_CHILDREN_CHANGED = 1, 2, 3, 4

FRAME_BYTES_MAX = 1048575  # jute.maxbuffer's default: the largest frame a server takes.
XID_NOTIFICATION, XID_PING, XID_SET_WATCHES = -1, -2, -8

Stat = namedtuple(
    "Stat", "czxid mzxid ctime mtime version cversion aversion ephemeral_owner data_length num_children pzxid"
)
Connected = namedtuple("Connected", "timeout_ms session password read_only")
Reply = namedtuple("Reply", "xid zxid err body")
Event = namedtuple("Event", "zxid kind state path")


class Closed(Exception):
    """The server closed the connection."""


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def flag(value):
    return b"\x01" if value else b"\x00"


def buffer(value):
    return i32(-1) if value is None else i32(len(value)) + value


def text(value):
    return buffer(value if value is None or isinstance(value, bytes) else value.encode())


def vector(items):
    return i32(-1) if items is None else i32(len(items)) + b"".join(items)


def acl(perms=31, scheme="world", identity="anyone"):
    return i32(perms) + text(scheme) + text(identity)


OPEN_ACL = (acl(),)


def create(path, data=b"", flags=0, acls=OPEN_ACL):
    return text(path) + buffer(data) + vector(acls) + i32(flags)


def delete(path, version=-1):
    return text(path) + i32(version)


def set_data(path, data, version=-1):
    return text(path) + buffer(data) + i32(version)


def watched(path, watch=False):
    """The body of exists, getData, getChildren and getChildren2."""
    return text(path) + flag(watch)


def set_watches(relative_zxid, data=(), exist=(), child=()):
    return i64(relative_zxid) + b"".join(vector([text(p) for p in paths]) for paths in (data, exist, child))


def connect_request(timeout_ms=10000, session=0, password=bytes(16), last_zxid=0, read_only=b"\x00"):
    return i32(0) + i64(last_zxid) + i32(timeout_ms) + i64(session) + buffer(password) + read_only


def framed(payload):
    return i32(len(payload)) + payload


class Reader:
    """Takes the fields of a record from the front; `rest` is what nobody asked for yet."""

    def __init__(self, data):
        self.rest = data

    def _take(self, count):
        assert count <= len(self.rest), f"a record ends {count - len(self.rest)} bytes too early"
        head, self.rest = self.rest[:count], self.rest[count:]
        return head

    def i32(self):
        return struct.unpack(">i", self._take(4))[0]

    def i64(self):
        return struct.unpack(">q", self._take(8))[0]

    def buffer(self):
        count = self.i32()
        return None if count == -1 else self._take(count)

    def text(self):
        value = self.buffer()
        return None if value is None else value.decode()

    def texts(self):
        return [self.text() for _ in range(self.i32())]

    def stat(self):
        return Stat(*struct.unpack(">qqqqiiiqiiq", self._take(68)))

    def end(self):
        assert not self.rest, f"{len(self.rest)} bytes behind the record"


def event_of(reply):
    fields = Reader(reply.body)
    event = Event(reply.zxid, fields.i32(), fields.i32(), fields.text())
    fields.end()
    return event


class Conn:
    """One connection. `events` keeps the notifications met while waiting for a reply, in their order."""

    def __init__(self, address, handshake=True, timeout=20, **connect):
        self.sock = socket.create_connection(address, timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self.events = []
        self.last_xid = 0
        self.last_zxid = 0
        self.connected = None
        if handshake:
            self.handshake(**connect)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def handshake(self, **connect):
        self.send(framed(connect_request(**connect)))
        self.connected = self.read_connected()
        return self.connected

    def read_connected(self):
        payload = self.frame()
        fields = Reader(payload)
        assert fields.i32() == 0, "the protocol version of a ConnectResponse is 0"
        return Connected(fields.i32(), fields.i64(), fields.buffer(), fields.rest)

    def send(self, data):
        self.sock.sendall(data)

    def _fill(self, count):
        while len(self.pending) < count:
            try:
                part = self.sock.recv(1 << 18)
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed
            self.pending += part

    def frame(self):
        """The payload of the next frame."""
        self._fill(4)
        length = struct.unpack(">i", self.pending[:4])[0]
        assert 0 <= length, f"the server announced a frame of {length} bytes"
        self._fill(4 + length)
        payload, self.pending = self.pending[4 : 4 + length], self.pending[4 + length :]
        return payload

    def next(self):
        """The next reply or notification."""
        fields = Reader(self.frame())
        return Reply(fields.i32(), fields.i64(), fields.i32(), fields.rest)

    def request(self, op, body=b"", xid=None):
        """The bytes of one request; sends nothing."""
        if xid is None:
            self.last_xid += 1
            xid = self.last_xid
        return framed(i32(xid) + i32(op) + body)

    def call(self, op, body=b"", xid=None):
        """One request and its reply; notifications met on the way are kept in `events`."""
        self.send(self.request(op, body, xid))
        wanted = xid if xid is not None else self.last_xid
        while True:
            reply = self.next()
            if reply.xid == XID_NOTIFICATION:
                self.events.append(event_of(reply))
                continue
            assert reply.xid == wanted, f"a reply with xid {reply.xid} came where {wanted} was due"
            if 0 < reply.zxid:
                self.last_zxid = reply.zxid
            return reply

    def wait_event(self):
        """The next notification, which must be the next frame unless one was met before."""
        if self.events:
            return self.events.pop(0)
        reply = self.next()
        assert reply.xid == XID_NOTIFICATION, f"a reply with xid {reply.xid} came where an event was due"
        return event_of(reply)

    def assert_closed(self):
        try:
            reply = self.next()
        except Closed:
            return
        raise AssertionError(f"the connection is open and answered {reply}")

    # The everyday calls. Each insists on success: a test that expects an error uses `call`.

    def _good(self, op, body):
        reply = self.call(op, body)
        assert reply.err == 0, f"op {op} failed with {reply.err}"
        return Reader(reply.body)

    def make(self, path, data=b"", flags=0):
        return self._good(CREATE, create(path, data, flags)).text()

    def drop(self, path, version=-1):
        self._good(DELETE, delete(path, version))

    def put(self, path, data, version=-1):
        return self._good(SET_DATA, set_data(path, data, version)).stat()

    def get(self, path, watch=False):
        fields = self._good(GET_DATA, watched(path, watch))
        return fields.buffer(), fields.stat()

    def children(self, path, watch=False):
        fields = self._good(GET_CHILDREN2, watched(path, watch))
        return sorted(fields.texts()), fields.stat()

    def stat(self, path, watch=False):
        """The Stat of a znode, None when it is missing."""
        reply = self.call(EXISTS, watched(path, watch))
        assert reply.err in (OK, NO_NODE), f"exists failed with {reply.err}"
        return Reader(reply.body).stat() if reply.err == OK else None

    def ping(self):
        reply_xid = self.call(PING, xid=XID_PING).xid
        assert reply_xid == XID_PING

    def end_session(self):
        assert self.call(CLOSE_SESSION).err == 0
        self.assert_closed()
        self.close()
