"""Creating, reading, changing and deleting znodes through kazoo, and every error code these can meet."""

import time

from kazoo.exceptions import (
    BadArgumentsError,
    BadVersionError,
    InvalidACLError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from . import wire
from .base import ServerCase


class Crud(ServerCase):
    def test_create_get_set_delete(self):
        client = self.kazoo()
        self.assertEqual(client.create(self.top, b"one"), self.top)
        data, stat = client.get(self.top)
        self.assertEqual((data, stat.version, stat.dataLength, stat.numChildren), (b"one", 0, 3, 0))
        self.assertEqual(stat.czxid, stat.mzxid)
        self.assertEqual(stat.ephemeralOwner, 0)
        self.assertLess(abs(stat.ctime / 1000 - time.time()), 60)
        changed = client.set(self.top, b"three", version=0)
        self.assertEqual((changed.version, changed.dataLength, changed.czxid), (1, 5, stat.czxid))
        self.assertGreater(changed.mzxid, stat.mzxid)
        self.assertEqual(client.get(self.top)[0], b"three")
        client.delete(self.top, version=1)
        self.assertIsNone(client.exists(self.top))

    def test_create2_returns_the_stat_of_the_new_znode(self):
        client = self.kazoo()
        path, stat = client.create(self.top, b"data", include_data=True)
        self.assertEqual(path, self.top)
        self.assertEqual((stat.version, stat.dataLength, stat.numChildren), (0, 4, 0))
        self.assertEqual(stat, client.get(self.top)[1])
        path, stat = client.create(f"{self.top}/s-", b"", ephemeral=True, sequence=True, include_data=True)
        self.assertEqual(path, f"{self.top}/s-0000000000")
        self.assertEqual(stat.ephemeralOwner, client.client_id[0])

    def test_null_and_empty_data_differ(self):
        conn = self.conn()
        conn.make(self.top, None)
        data, stat = conn.get(self.top)
        self.assertIsNone(data)
        self.assertEqual(stat.data_length, 0)
        conn.put(self.top, b"")
        self.assertEqual(conn.get(self.top)[0], b"")
        conn.put(self.top, None)
        self.assertIsNone(conn.get(self.top)[0])

    def test_names_in_many_scripts_and_all_byte_values(self):
        client = self.kazoo()
        client.create(self.top)
        every_byte = bytes(range(256))
        for name in ("größe", "имя", "名前", "a b", "...", ".x", "\u00a0", "x" * 500):
            client.create(f"{self.top}/{name}", every_byte)
            self.assertEqual(client.get(f"{self.top}/{name}")[0], every_byte)
        self.assertEqual(len(client.get_children(self.top)), 8)

    def test_children_and_the_parents_stat(self):
        client = self.kazoo()
        client.create(self.top)
        born = client.exists(self.top)
        for name in ("a", "b", "c"):
            client.create(f"{self.top}/{name}")
        client.delete(f"{self.top}/b")
        names, stat = client.get_children(self.top, include_data=True)
        self.assertEqual(sorted(names), ["a", "c"])
        self.assertEqual((stat.numChildren, stat.cversion, stat.version), (2, 4, 0))
        self.assertEqual((stat.mzxid, stat.czxid), (born.mzxid, born.czxid))
        self.assertGreater(stat.pzxid, born.pzxid)
        self.assertEqual(client.get_children(f"{self.top}/a"), [])

    def test_a_deep_chain(self):
        client = self.kazoo()
        path = self.top + "/d" * 60
        client.ensure_path(path)
        self.assertIsNotNone(client.exists(path))
        client.delete(self.top, recursive=True)
        self.assertIsNone(client.exists(self.top))

    def test_sequential_names_count_all_children_of_the_parent(self):
        client = self.kazoo()
        client.create(self.top)
        self.assertEqual(client.create(f"{self.top}/a-", sequence=True), f"{self.top}/a-0000000000")
        client.create(f"{self.top}/plain")
        self.assertEqual(client.create(f"{self.top}/b-", sequence=True), f"{self.top}/b-0000000002")
        client.delete(f"{self.top}/b-0000000002")
        # Neither a deletion nor a failed create moves the counter.
        with self.assertRaises(NodeExistsError):
            client.create(f"{self.top}/plain")
        self.assertEqual(client.create(f"{self.top}/b-", sequence=True), f"{self.top}/b-0000000003")

    def test_a_sequential_name_may_be_the_number_alone(self):
        conn = self.conn()
        conn.make(self.top)
        self.assertEqual(conn.make(f"{self.top}/", flags=2), f"{self.top}/0000000000")

    def test_sequential_names_are_unique_under_concurrency(self):
        clients = [self.kazoo() for _ in range(4)]
        clients[0].create(self.top)
        waiting = [c.create_async(f"{self.top}/n-", sequence=True) for _ in range(50) for c in clients]
        numbers = sorted(int(w.get(timeout=20)[-10:]) for w in waiting)
        self.assertEqual(numbers, list(range(200)))

    def test_sync_echoes_its_path(self):
        client = self.kazoo()
        self.assertEqual(client.sync("/anything/at/all"), "/anything/at/all")

    def test_the_initial_znodes(self):
        client = self.kazoo()
        self.assertIn("zookeeper", client.get_children("/"))
        self.assertEqual(sorted(client.get_children("/zookeeper")), ["config", "quota"])
        self.assertEqual(client.exists("/zookeeper").cversion, -2)

    def test_error_no_node(self):
        client = self.kazoo()
        missing = f"{self.top}/missing"
        for call in (
            lambda: client.get(missing),
            lambda: client.set(missing, b""),
            lambda: client.delete(missing),
            lambda: client.get_children(missing),
            lambda: client.create(f"{missing}/child"),
        ):
            with self.assertRaises(NoNodeError):
                call()
        self.assertIsNone(client.exists(missing))

    def test_error_bad_version(self):
        client = self.kazoo()
        client.create(self.top)
        client.set(self.top, b"x")
        for version in (0, 2, 1 << 30):
            with self.assertRaises(BadVersionError):
                client.set(self.top, b"y", version=version)
            with self.assertRaises(BadVersionError):
                client.delete(self.top, version=version)
        conn = self.conn()
        self.assertEqual(conn.call(wire.SET_DATA, wire.set_data(self.top, b"", -2)).err, wire.BAD_VERSION)
        self.assertEqual(client.get(self.top)[0], b"x")

    def test_error_node_exists(self):
        client = self.kazoo()
        client.create(self.top, b"first")
        with self.assertRaises(NodeExistsError):
            client.create(self.top, b"second")
        self.assertEqual(client.get(self.top)[0], b"first")
        self.assertEqual(self.conn().call(wire.CREATE, wire.create("/")).err, wire.NODE_EXISTS)

    def test_error_not_empty(self):
        client = self.kazoo()
        client.create(self.top)
        client.create(f"{self.top}/child")
        with self.assertRaises(NotEmptyError):
            client.delete(self.top)
        self.assertIsNotNone(client.exists(f"{self.top}/child"))

    def test_error_no_children_for_ephemerals(self):
        client = self.kazoo()
        client.create(self.top, ephemeral=True)
        with self.assertRaises(NoChildrenForEphemeralsError):
            client.create(f"{self.top}/child")

    def test_error_invalid_acl(self):
        client = self.kazoo()
        with self.assertRaises(InvalidACLError):
            client.create(self.top, acl=[make_acl("no-such-scheme", "id", all=True)])
        conn = self.conn()
        lists = {
            "null": None,
            "empty": (),
            "null scheme": (wire.acl(scheme=None),),
            "world for somebody": (wire.acl(identity="somebody"),),
            "good then bad": (wire.acl(), wire.acl(scheme="nonsense")),
        }
        for name, acls in lists.items():
            with self.subTest(name):
                body = wire.create(self.top, b"", 0, acls)
                self.assertEqual(conn.call(wire.CREATE, body).err, wire.INVALID_ACL)
        # The list is judged before the parent is looked up.
        missing = wire.create(f"{self.top}/a/b", b"", 0, ())
        self.assertEqual(conn.call(wire.CREATE, missing).err, wire.INVALID_ACL)
        self.assertIsNone(client.exists(self.top))
        client.create(self.top, acl=OPEN_ACL_UNSAFE)

    def test_error_bad_arguments(self):
        client = self.kazoo()
        with self.assertRaises(BadArgumentsError):
            client.create(f"{self.top}\u0001")
        conn = self.conn()
        conn.make(self.top)
        cases = {
            "no slash": (wire.CREATE, wire.create("a"), wire.BAD_ARGUMENTS),
            "empty path": (wire.CREATE, wire.create(""), wire.BAD_ARGUMENTS),
            "trailing slash": (wire.CREATE, wire.create(f"{self.top}/"), wire.BAD_ARGUMENTS),
            "dot": (wire.CREATE, wire.create(f"{self.top}/."), wire.BAD_ARGUMENTS),
            "dots": (wire.CREATE, wire.create(f"{self.top}/.."), wire.BAD_ARGUMENTS),
            "double slash": (wire.CREATE, wire.create(f"{self.top}//x"), wire.NO_NODE),
            "below dots": (wire.CREATE, wire.create(f"{self.top}/../x"), wire.NO_NODE),
            "nul": (wire.CREATE, wire.create(f"{self.top}/a\0b"), wire.BAD_ARGUMENTS),
            "control": (wire.CREATE, wire.create(f"{self.top}/\u009f"), wire.BAD_ARGUMENTS),
            "surrogate": (wire.CREATE, wire.create(f"{self.top}/\U0001f600"), wire.BAD_ARGUMENTS),
            "fff0": (wire.CREATE, wire.create(f"{self.top}/\ufff0"), wire.BAD_ARGUMENTS),
            "broken UTF-8": (wire.CREATE, wire.create(f"{self.top}/".encode() + b"\xc3\x28"), wire.BAD_ARGUMENTS),
            "flags 7": (wire.CREATE, wire.create(f"{self.top}/f", flags=7), wire.BAD_ARGUMENTS),
            "flags -1": (wire.CREATE, wire.create(f"{self.top}/f", flags=-1), wire.BAD_ARGUMENTS),
            "set null path": (wire.SET_DATA, wire.set_data(None, b""), wire.BAD_ARGUMENTS),
            "set no slash": (wire.SET_DATA, wire.set_data("a", b""), wire.BAD_ARGUMENTS),
            "delete root": (wire.DELETE, wire.delete("/"), wire.BAD_ARGUMENTS),
            "delete /zookeeper": (wire.DELETE, wire.delete("/zookeeper"), wire.BAD_ARGUMENTS),
            "delete trailing slash": (wire.DELETE, wire.delete(f"{self.top}/"), wire.NO_NODE),
            "exists nul": (wire.EXISTS, wire.watched("/a\0b"), wire.BAD_ARGUMENTS),
            "get ill-formed": (wire.GET_DATA, wire.watched(f"{self.top}//"), wire.NO_NODE),
        }
        for name, (op, body, err) in cases.items():
            with self.subTest(name):
                self.assertEqual(conn.call(op, body).err, err)
        conn.make(f"{self.top}/\uffef")
        self.assertEqual(conn.children(self.top)[0], ["\uffef"])

    def test_the_empty_path_reads_the_root(self):
        conn = self.conn()
        self.assertEqual(conn.get("")[1], conn.get("/")[1])
        self.assertEqual(conn.children(""), conn.children("/"))

    def test_failed_writes_take_a_zxid_and_reads_do_not(self):
        conn = self.conn()
        base = conn.call(wire.CREATE, wire.create(self.top)).zxid
        self.assertEqual(conn.call(wire.CREATE, wire.create(self.top)).zxid, base + 1)
        self.assertEqual(conn.call(wire.DELETE, wire.delete(f"{self.top}/no")).zxid, base + 2)
        self.assertEqual(conn.call(wire.GET_DATA, wire.watched(self.top)).zxid, base + 2)
        self.assertEqual(conn.call(wire.GET_DATA, wire.watched(f"{self.top}/no")).zxid, base + 2)
        self.assertEqual(conn.call(wire.SYNC, wire.text("/")).zxid, base + 2)
        self.assertEqual(conn.call(wire.PING, xid=wire.XID_PING).zxid, base + 2)

    def test_flag_four_with_create_makes_a_plain_znode(self):
        conn = self.conn()
        conn.make(self.top, flags=4)
        self.assertEqual(conn.stat(self.top).ephemeral_owner, 0)

    def test_big_data_near_one_mebibyte(self):
        client = self.kazoo()
        data = bytes(i * 31 % 251 for i in range(1000)) * 1048
        self.assertGreater(len(data), 1000 * 1000)
        client.create(self.top, data)
        self.assertEqual(client.get(self.top)[0], data)
        smaller = data[:-7]
        self.assertEqual(client.set(self.top, smaller).dataLength, len(smaller))
        self.assertEqual(client.get(self.top)[0], smaller)

    def test_the_largest_frame_is_taken_and_one_byte_more_closes_the_connection(self):
        conn = self.conn()
        conn.make(self.top)
        overhead = len(conn.request(wire.SET_DATA, wire.set_data(self.top, b""), xid=0)) - 4
        largest = b"z" * (wire.FRAME_BYTES_MAX - overhead)
        self.assertEqual(conn.put(self.top, largest).data_length, len(largest))
        # The reply is larger than any frame the server would take; it is sent all the same.
        self.assertEqual(conn.get(self.top)[0], largest)
        conn.send(conn.request(wire.SET_DATA, wire.set_data(self.top, largest + b"z"))[:64])
        conn.assert_closed()
        self.assertEqual(self.conn().get(self.top)[1].version, 1)

    def test_a_big_listing(self):
        conn = self.conn()
        conn.make(self.top)
        names = [f"{i:06}" + "n" * 200 for i in range(6000)]
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            conn.send(b"".join(conn.request(wire.CREATE, wire.create(f"{self.top}/{n}")) for n in part))
            for _ in part:
                self.assertEqual(conn.next().err, 0)
        found, stat = conn.children(self.top)
        self.assertEqual(found, names)
        self.assertEqual(stat.num_children, len(names))
