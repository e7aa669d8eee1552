package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.create;
import static zorilla.Check.fails;
import static zorilla.Check.same;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/** Watches that stay, watches of whole subtrees, and taking watches away. */
final class Watches {
    private Watches() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a persistent watch tells every change of its znode", Watches::persistent);
        suite.add("a recursive watch tells every change below its znode", Watches::recursive);
        suite.add("a recursive watch of the root", Watches::ofTheRoot);
        suite.add("a recursive watch sees ephemerals end and transactions", Watches::recursiveEnds);
        suite.add("persistent and one-time watches on one znode", Watches::mixed);
        suite.add("both persistent modes on one znode", Watches::bothModes);
        suite.add("addWatch without waiting", Watches::asynchronous);
        suite.add("persistent watches survive a reconnect", Watches::reconnect);
        suite.add("every kind of watch survives a reconnect", Watches::everyKindReconnects);
        suite.add("persistent watches survive kill -9", Watches::restart);
        suite.add("removing one watcher of each kind", Watches::removeOne);
        suite.add("removing all watchers of each kind", Watches::removeAll);
        suite.add("removing what is not there", Watches::removeMissing);
        suite.add("a removed watch does not come back with a reconnect", Watches::removedStaysAway);
        suite.add("removing locally while the server is away", Watches::removeLocally);
        suite.add("a thousand watches fire once each", Watches::many);
    }

    private static void persistent(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            // The znode need not be there.
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT);
            for (int round = 0; round < 2; round++) {
                create(writer.zk, top);
                writer.zk.setData(top, null, -1);
                create(writer.zk, top + "/a");
                create(writer.zk, top + "/a/b");
                writer.zk.setData(top + "/a", null, -1);
                writer.zk.delete(top + "/a/b", -1);
                writer.zk.delete(top + "/a", -1);
                writer.zk.setData(top, null, -1);
                writer.zk.delete(top, -1);
                same(List.of("NodeCreated " + top, "NodeDataChanged " + top, "NodeChildrenChanged " + top,
                        "NodeChildrenChanged " + top, "NodeDataChanged " + top, "NodeDeleted " + top),
                        reader.events(6));
            }
            reader.assertNoEvent();
        }
    }

    private static void recursive(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
            for (int round = 0; round < 2; round++) {
                create(writer.zk, top);
                create(writer.zk, top + "/a");
                create(writer.zk, top + "/a/b");
                writer.zk.setData(top + "/a/b", null, -1);
                writer.zk.delete(top + "/a/b", -1);
                writer.zk.delete(top + "/a", -1);
                writer.zk.setData(top, null, -1);
                writer.zk.delete(top, -1);
                // Nobody is told of children: every child tells of itself.
                same(List.of("NodeCreated " + top, "NodeCreated " + top + "/a", "NodeCreated " + top + "/a/b",
                        "NodeDataChanged " + top + "/a/b", "NodeDeleted " + top + "/a/b", "NodeDeleted " + top + "/a",
                        "NodeDataChanged " + top, "NodeDeleted " + top), reader.events(8));
            }
            // A name that only begins like the watched one lies beside it.
            create(writer.zk, top + "beside");
            writer.zk.delete(top + "beside", -1);
            reader.assertNoEvent();
        }
    }

    private static void ofTheRoot(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            reader.zk.addWatch("/", reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
            create(writer.zk, top);
            create(writer.zk, top + "/a");
            writer.zk.setData("/", null, -1);
            same(List.of("NodeCreated " + top, "NodeCreated " + top + "/a", "NodeDataChanged /"), reader.events(3));
            reader.assertNoEvent();
        }
    }

    private static void recursiveEnds(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
            Client owner = new Client(server);
            owner.zk.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            owner.close();
            writer.zk.multi(List.of(
                    Op.create(top + "/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.create(top + "/x/y", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.setData(top + "/x", null, 0),
                    Op.delete(top + "/x/y", -1)));
            same(List.of("NodeCreated " + top + "/e", "NodeDeleted " + top + "/e", "NodeCreated " + top + "/x",
                    "NodeCreated " + top + "/x/y", "NodeDataChanged " + top + "/x", "NodeDeleted " + top + "/x/y"),
                    reader.events(6));
            reader.assertNoEvent();
        }
    }

    /** A connection is told of a change once, and its client calls every watcher concerned. */
    private static void mixed(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            reader.zk.addWatch(top, named("stays", told), AddWatchMode.PERSISTENT);
            reader.zk.getData(top, named("once", told), null);
            reader.zk.getChildren(top, named("child", told));
            writer.zk.setData(top, null, -1);
            writer.zk.setData(top, null, -1);
            create(writer.zk, top + "/a");
            writer.zk.delete(top + "/a", -1);
            reader.settle();
            same(List.of("once NodeDataChanged", "stays NodeDataChanged", "stays NodeDataChanged",
                    "child NodeChildrenChanged", "stays NodeChildrenChanged", "stays NodeChildrenChanged"),
                    sortedRuns(told));
        }
    }

    private static Watcher named(String name, List<String> told) {
        return event -> {
            if (event.getType() != Watcher.Event.EventType.None) {
                told.add(name + " " + event.getType());
            }
        };
    }

    /** The client calls the watchers of one event in no order; here they are put in that of their names. */
    private static List<String> sortedRuns(List<String> told) {
        List<String> sorted = new ArrayList<>(told);
        Collections.sort(sorted.subList(0, 2));
        Collections.sort(sorted.subList(3, 5));
        return sorted;
    }

    private static void bothModes(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            reader.zk.addWatch(top, named("flat", told), AddWatchMode.PERSISTENT);
            reader.zk.addWatch(top, named("deep", told), AddWatchMode.PERSISTENT_RECURSIVE);
            create(writer.zk, top + "/a");
            writer.zk.setData(top + "/a", null, -1);
            reader.settle();
            same(new TreeSet<>(List.of("deep NodeCreated", "deep NodeDataChanged", "flat NodeChildrenChanged")),
                    new TreeSet<>(told));
            same(3, told.size());
        }
    }

    private static void asynchronous(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            CountDownLatch done = new CountDownLatch(2);
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT, (rc, path, ctx) -> {
                found.add(rc + " " + path);
                done.countDown();
            }, null);
            reader.zk.addWatch(top + "/r", reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE, (rc, path, ctx) -> {
                found.add(rc + " " + path);
                done.countDown();
            }, null);
            Client.await(done);
            same(List.of("0 " + top, "0 " + top + "/r"), found);
            create(writer.zk, top);
            create(writer.zk, top + "/r");
            same(new TreeSet<>(List.of("NodeCreated " + top, "NodeCreated " + top + "/r",
                    "NodeChildrenChanged " + top)), new TreeSet<>(reader.events(3)));
        }
    }

    private static void reconnect(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client reader = new Client(link, 8000); Client writer = new Client(server)) {
            create(writer.zk, top);
            create(writer.zk, top + "/a");
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT);
            reader.zk.addWatch(top + "/a", reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
            for (int round = 0; round < 3; round++) {
                reader.states.clear();
                link.breakAll();
                reader.awaitState(KeeperState.SyncConnected);
                // The watches are set again before anything else is asked.
                reader.settle();
                writer.zk.setData(top, null, -1);
                create(writer.zk, top + "/a/b");
                writer.zk.delete(top + "/a/b", -1);
                same(List.of("NodeDataChanged " + top, "NodeCreated " + top + "/a/b", "NodeDeleted " + top + "/a/b"),
                        reader.events(3));
                reader.assertNoEvent();
            }
        }
    }

    /** What happened meanwhile is told to one-time watches only; the persistent ones go on from the present. */
    private static void everyKindReconnects(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client reader = new Client(link, 10_000);
                Client writer = new Client(server)) {
            for (String path : List.of("", "/data", "/child", "/flat", "/deep", "/quiet")) {
                create(writer.zk, top + path);
            }
            reader.zk.getData(top + "/data", reader.watcher(), null);
            reader.zk.exists(top + "/born", reader.watcher());
            reader.zk.getChildren(top + "/child", reader.watcher());
            reader.zk.getData(top + "/quiet", reader.watcher(), null);
            reader.zk.addWatch(top + "/flat", reader.watcher(), AddWatchMode.PERSISTENT);
            reader.zk.addWatch(top + "/deep", reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
            link.cut();
            writer.zk.setData(top + "/data", null, -1);
            create(writer.zk, top + "/born");
            create(writer.zk, top + "/child/x");
            writer.zk.setData(top + "/flat", null, -1);
            create(writer.zk, top + "/deep/x");
            reader.states.clear();
            link.restore();
            reader.awaitState(KeeperState.SyncConnected);
            same(new TreeSet<>(List.of("NodeDataChanged " + top + "/data", "NodeCreated " + top + "/born",
                    "NodeChildrenChanged " + top + "/child")), new TreeSet<>(reader.events(3)));
            reader.assertNoEvent();
            writer.zk.setData(top + "/quiet", null, -1);
            writer.zk.setData(top + "/flat", null, -1);
            writer.zk.delete(top + "/deep/x", -1);
            same(List.of("NodeDataChanged " + top + "/quiet", "NodeDataChanged " + top + "/flat",
                    "NodeDeleted " + top + "/deep/x"), reader.events(3));
            writer.zk.setData(top + "/data", null, -1);
            reader.assertNoEvent();
        }
    }

    private static void restart(Server server, String top) throws Exception {
        try (Client reader = new Client(server)) {
            create(reader.zk, top);
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
            reader.states.clear();
            server.kill();
            server.start();
            reader.awaitState(KeeperState.SyncConnected);
            reader.settle();
            try (Client writer = new Client(server)) {
                create(writer.zk, top + "/a");
                writer.zk.delete(top + "/a", -1);
            }
            same(List.of("NodeCreated " + top + "/a", "NodeDeleted " + top + "/a"), reader.events(2));
            reader.assertNoEvent();
        }
    }

    /** Sets one watch of a kind on a znode. */
    private interface Setter {
        void set(ZooKeeper zk, String path, Watcher watcher) throws Exception;
    }

    private record Kind(WatcherType type, String removed, Setter setter) {
    }

    private static final List<Kind> KINDS = List.of(
            new Kind(WatcherType.Data, "DataWatchRemoved", (zk, path, watcher) -> zk.getData(path, watcher, null)),
            new Kind(WatcherType.Data, "DataWatchRemoved", (zk, path, watcher) -> zk.exists(path, watcher)),
            new Kind(WatcherType.Children, "ChildWatchRemoved", (zk, path, watcher) -> zk.getChildren(path, watcher)),
            new Kind(WatcherType.Persistent, "PersistentWatchRemoved",
                    (zk, path, watcher) -> zk.addWatch(path, watcher, AddWatchMode.PERSISTENT)),
            new Kind(WatcherType.PersistentRecursive, "PersistentWatchRemoved",
                    (zk, path, watcher) -> zk.addWatch(path, watcher, AddWatchMode.PERSISTENT_RECURSIVE)),
            new Kind(WatcherType.Any, "DataWatchRemoved", (zk, path, watcher) -> zk.getData(path, watcher, null)),
            new Kind(WatcherType.Any, "ChildWatchRemoved", (zk, path, watcher) -> zk.getChildren(path, watcher)),
            new Kind(WatcherType.Any, "PersistentWatchRemoved",
                    (zk, path, watcher) -> zk.addWatch(path, watcher, AddWatchMode.PERSISTENT)));

    private static void removeOne(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            ZooKeeper zk = reader.zk;
            create(zk, top);
            for (int i = 0; i < KINDS.size(); i++) {
                Kind kind = KINDS.get(i);
                String path = top + "/" + i;
                create(zk, path);
                Watcher mine = reader.watcher();
                kind.setter.set(zk, path, mine);
                zk.removeWatches(path, mine, kind.type, false);
                same(kind.removed + " " + path, reader.event());
                writer.zk.setData(path, null, -1);
                create(writer.zk, path + "/x");
                writer.zk.delete(path + "/x", -1);
                writer.zk.delete(path, -1);
                reader.assertNoEvent();
            }
        }
    }

    private static void removeAll(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            ZooKeeper zk = reader.zk;
            create(zk, top);
            for (int i = 0; i < KINDS.size(); i++) {
                Kind kind = KINDS.get(i);
                String path = top + "/" + i;
                create(zk, path);
                kind.setter.set(zk, path, reader.watcher());
                kind.setter.set(zk, path, reader.watcher());
                zk.removeAllWatches(path, kind.type, false);
                same(List.of(kind.removed + " " + path, kind.removed + " " + path), reader.events(2));
                writer.zk.setData(path, null, -1);
                create(writer.zk, path + "/x");
                writer.zk.delete(path + "/x", -1);
                writer.zk.delete(path, -1);
                reader.assertNoEvent();
            }
            // One kind goes, the other stays.
            String path = top + "/both";
            create(zk, path);
            zk.getData(path, reader.watcher(), null);
            zk.getChildren(path, reader.watcher());
            zk.removeAllWatches(path, WatcherType.Data, false);
            same("DataWatchRemoved " + path, reader.event());
            writer.zk.setData(path, null, -1);
            create(writer.zk, path + "/x");
            same("NodeChildrenChanged " + path, reader.event());
            reader.assertNoEvent();
        }
    }

    private static void removeMissing(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            Watcher mine = client.watcher();
            for (WatcherType type : WatcherType.values()) {
                fails(Code.NOWATCHER, () -> zk.removeWatches(top, mine, type, false));
                fails(Code.NOWATCHER, () -> zk.removeAllWatches(top, type, false));
            }
            zk.getData(top, mine, null);
            fails(Code.NOWATCHER, () -> zk.removeWatches(top, mine, WatcherType.Children, false));
            fails(Code.NOWATCHER, () -> zk.removeWatches(top, client.watcher(), WatcherType.Data, false));
            fails(Code.NOWATCHER, () -> zk.removeWatches(top + "/other", mine, WatcherType.Data, false));
            CountDownLatch done = new CountDownLatch(1);
            List<Integer> found = Collections.synchronizedList(new ArrayList<>());
            zk.removeWatches(top, mine, WatcherType.Any, false, (rc, path, ctx) -> {
                found.add(rc);
                done.countDown();
            }, null);
            Client.await(done);
            same(List.of(0), found);
            same("DataWatchRemoved " + top, client.event());
            fails(Code.NOWATCHER, () -> zk.removeWatches(top, mine, WatcherType.Any, false));
        }
    }

    private static void removedStaysAway(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client reader = new Client(link, 8000); Client writer = new Client(server)) {
            create(writer.zk, top);
            reader.zk.addWatch(top, reader.watcher(), AddWatchMode.PERSISTENT);
            reader.zk.getData(top, reader.watcher(), null);
            reader.zk.removeAllWatches(top, WatcherType.Any, false);
            yes(reader.events(2).contains("PersistentWatchRemoved " + top), "both are gone");
            reader.states.clear();
            link.breakAll();
            reader.awaitState(KeeperState.SyncConnected);
            reader.settle();
            writer.zk.setData(top, bytes("x"), -1);
            reader.assertNoEvent();
        }
    }

    private static void removeLocally(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client reader = new Client(link, 10_000);
                Client writer = new Client(server)) {
            create(writer.zk, top);
            Watcher mine = reader.watcher();
            reader.zk.addWatch(top, mine, AddWatchMode.PERSISTENT);
            link.cut();
            reader.awaitState(KeeperState.Disconnected);
            fails(Code.CONNECTIONLOSS, () -> reader.zk.removeWatches(top, mine, WatcherType.Any, false));
            reader.zk.removeWatches(top, mine, WatcherType.Any, true);
            same("PersistentWatchRemoved " + top, reader.event());
            reader.states.clear();
            link.restore();
            reader.awaitState(KeeperState.SyncConnected);
            writer.zk.setData(top, null, -1);
            reader.assertNoEvent();
        }
    }

    private static void many(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            int count = 1000;
            create(writer.zk, top);
            CountDownLatch made = new CountDownLatch(count);
            for (int i = 0; i < count; i++) {
                writer.zk.create(top + "/" + i, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                        (rc, path, ctx, name) -> made.countDown(), null);
            }
            Client.await(made);
            CountDownLatch armed = new CountDownLatch(count);
            for (int i = 0; i < count; i++) {
                reader.zk.getData(top + "/" + i, reader.watcher(),
                        (rc, path, ctx, data, stat) -> armed.countDown(), null);
            }
            Client.await(armed);
            CountDownLatch written = new CountDownLatch(2 * count);
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                expected.add("NodeDataChanged " + top + "/" + i);
                for (int again = 0; again < 2; again++) {
                    writer.zk.setData(top + "/" + i, null, -1, (rc, path, ctx, stat) -> written.countDown(), null);
                }
            }
            Client.await(written);
            same(expected, reader.events(count));
            reader.assertNoEvent();
        }
    }
}
