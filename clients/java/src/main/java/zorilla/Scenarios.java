package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.create;
import static zorilla.Check.fails;
import static zorilla.Check.same;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** What applications do through the Java client. */
final class Scenarios {
    private Scenarios() {
    }

    static void addTo(Suite suite) {
        suite.add("create, get, set, delete and their Stats", Scenarios::crud);
        suite.add("create2 returns the Stat of the new znode", Scenarios::create2);
        suite.add("null and empty data differ", Scenarios::nullData);
        suite.add("every error code", Scenarios::errors);
        suite.add("sequential names", Scenarios::sequential);
        suite.add("an asynchronous pipeline keeps its order", Scenarios::pipeline);
        suite.add("many clients in parallel", Scenarios::parallel);
        suite.add("sync", Scenarios::sync);
        suite.add("big data near one mebibyte", Scenarios::bigData);
        suite.add("data watches", Scenarios::dataWatch);
        suite.add("exists watches", Scenarios::existsWatch);
        suite.add("child watches", Scenarios::childWatch);
        suite.add("the event comes before the new data", Scenarios::eventBeforeData);
        suite.add("ephemerals die with closeSession", Scenarios::ephemeralClose);
        suite.add("ephemerals die with their expired session", Scenarios::ephemeralExpiry);
        suite.add("a client that asks nothing keeps its session", Scenarios::idle);
        suite.add("a session is resumed by id and password", Scenarios::resume);
        suite.add("a wrong password is an expired session", Scenarios::wrongPassword);
        suite.add("a session closed elsewhere is an expired session", Scenarios::expired);
        suite.add("kill -9: session, ephemerals and watches go on", (s, top) -> restart(s, top, true));
        suite.add("SIGTERM: session, ephemerals and watches go on", (s, top) -> restart(s, top, false));
        suite.add("kill -9: missed changes are told by setWatches", Scenarios::missedChanges);
    }

    private static void crud(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            same(top, zk.create(top, bytes("one"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            Stat born = new Stat();
            same("one", text(zk.getData(top, false, born)));
            same(0, born.getVersion());
            same(born.getCzxid(), born.getMzxid());
            same(born.getCzxid(), born.getPzxid());
            same(3, born.getDataLength());
            yes(Math.abs(System.currentTimeMillis() - born.getCtime()) < 60_000, "ctime is now");
            Stat changed = zk.setData(top, bytes("three"), 0);
            same(1, changed.getVersion());
            yes(born.getMzxid() < changed.getMzxid(), "a change has a newer zxid");
            same(changed, zk.exists(top, false));
            zk.create(top + "/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            zk.create(top + "/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            zk.delete(top + "/a", 0);
            Stat parent = new Stat();
            same(List.of("b"), zk.getChildren(top, false, parent));
            same(List.of("b"), zk.getChildren(top, false));
            same(3, parent.getCversion());
            same(1, parent.getNumChildren());
            same(changed.getMzxid(), parent.getMzxid());
            zk.delete(top + "/b", -1);
            zk.delete(top, 1);
            same(null, zk.exists(top, false));
        }
    }

    private static void create2(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            Stat stat = new Stat();
            client.zk.create(top, bytes("data"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, stat);
            same(stat, client.zk.exists(top, false));
            String path = client.zk.create(
                    top + "/s-", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL, stat);
            same(top + "/s-0000000000", path);
            same(client.zk.getSessionId(), stat.getEphemeralOwner());
        }
    }

    private static void nullData(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            client.zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            same(null, client.zk.getData(top, false, null));
            client.zk.setData(top, new byte[0], -1);
            same(0, client.zk.getData(top, false, null).length);
        }
    }

    private static void errors(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            fails(Code.NONODE, () -> zk.getData(top, false, null));
            fails(Code.NONODE, () -> zk.getChildren(top, false));
            fails(Code.NONODE, () -> zk.setData(top, null, -1));
            fails(Code.NONODE, () -> zk.delete(top, -1));
            fails(Code.NONODE, () -> create(zk, top + "/a"));
            create(zk, top);
            fails(Code.NODEEXISTS, () -> create(zk, top));
            fails(Code.BADVERSION, () -> zk.setData(top, null, 5));
            fails(Code.BADVERSION, () -> zk.delete(top, 5));
            create(zk, top + "/a");
            fails(Code.NOTEMPTY, () -> zk.delete(top, -1));
            zk.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            fails(Code.NOCHILDRENFOREPHEMERALS, () -> create(zk, top + "/e/x"));
            fails(Code.BADARGUMENTS, () -> zk.delete("/zookeeper", -1));
            List<ACL> nonsense = Collections.singletonList(new ACL(31, new Id("nonsense", "x")));
            fails(Code.INVALIDACL, () -> zk.create(top + "/x", null, nonsense, CreateMode.PERSISTENT));
            same(null, zk.exists(top + "/x", false));
        }
    }

    private static void sequential(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            List<String> names = new ArrayList<>();
            for (int i = 0; i < 5; i++) {
                names.add(zk.create(top + "/n-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL));
            }
            for (int i = 0; i < 5; i++) {
                same(String.format("%s/n-%010d", top, i), names.get(i));
            }
            zk.delete(names.get(4), -1);
            String next = zk.create(top + "/m-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
            same(top + "/m-0000000005", next);
        }
    }

    /** Requests are sent without waiting; each answer must show exactly the requests before it. */
    private static void pipeline(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            int rounds = 500;
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(2 * rounds + 2);
            zk.create(top, bytes("-1"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, path, ctx, name) -> {
                found.add("create " + rc);
                done.countDown();
            }, null);
            for (int i = 0; i < rounds; i++) {
                zk.setData(top, bytes("" + i), i, (rc, path, ctx, stat) -> {
                    found.add("set " + rc + " version " + stat.getVersion());
                    done.countDown();
                }, null);
                zk.getData(top, false, (rc, path, ctx, data, stat) -> {
                    found.add("get " + rc + " " + text(data) + " version " + stat.getVersion());
                    done.countDown();
                }, null);
            }
            zk.delete(top, rounds, (rc, path, ctx) -> {
                found.add("delete " + rc);
                done.countDown();
            }, null);
            Client.await(done);
            List<String> expected = new ArrayList<>(List.of("create 0"));
            for (int i = 0; i < rounds; i++) {
                expected.add("set 0 version " + (i + 1));
                expected.add("get 0 " + i + " version " + (i + 1));
            }
            expected.add("delete 0");
            same(expected, found);
        }
    }

    private static void parallel(Server server, String top) throws Exception {
        int clients = 8;
        int creates = 200;
        List<Client> all = new ArrayList<>();
        try {
            for (int i = 0; i < clients; i++) {
                all.add(new Client(server));
            }
            create(all.get(0).zk, top);
            CountDownLatch done = new CountDownLatch(clients * creates);
            List<String> names = Collections.synchronizedList(new ArrayList<>());
            for (int i = 0; i < creates; i++) {
                for (Client client : all) {
                    client.zk.create(top + "/n-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL,
                            (rc, path, ctx, name) -> {
                                names.add(rc + " " + name);
                                done.countDown();
                            }, null);
                }
            }
            Client.await(done);
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < clients * creates; i++) {
                expected.add(String.format("0 %s/n-%010d", top, i));
            }
            Collections.sort(names);
            same(expected, names);
        } finally {
            for (Client client : all) {
                client.close();
            }
        }
        try (Client client = new Client(server)) {
            same(List.of(), client.zk.getChildren(top, false));
        }
    }

    private static void sync(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            CountDownLatch done = new CountDownLatch(1);
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            client.zk.sync(top, (rc, path, ctx) -> {
                found.add(rc + " " + path);
                done.countDown();
            }, null);
            Client.await(done);
            same(List.of("0 " + top), found);
        }
    }

    private static void bigData(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            // The reply is 68 bytes larger than the request, and the client takes no more than the server does.
            byte[] data = new byte[1_048_575 - 200];
            ThreadLocalRandom.current().nextBytes(data);
            client.zk.create(top, data, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            yes(Arrays.equals(data, client.zk.getData(top, false, null)), "all bytes come back");
        }
        // More than a frame may carry: the connection is closed, and the client goes on.
        try (Client client = new Client(server)) {
            fails(Code.CONNECTIONLOSS, () -> client.zk.setData(top, new byte[1_100_000], -1));
            client.awaitState(KeeperState.Disconnected);
            client.awaitState(KeeperState.SyncConnected);
            same(0, client.zk.exists(top, false).getVersion());
        }
    }

    private static void dataWatch(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            reader.zk.getData(top, reader.watcher(), null);
            writer.zk.setData(top, bytes("1"), -1);
            writer.zk.setData(top, bytes("2"), -1);
            same("NodeDataChanged " + top, reader.event());
            reader.zk.getData(top, reader.watcher(), null);
            writer.zk.delete(top, -1);
            same("NodeDeleted " + top, reader.event());
            yes(reader.events.isEmpty(), "a watch fires once");
        }
    }

    private static void existsWatch(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            same(null, reader.zk.exists(top, reader.watcher()));
            create(writer.zk, top);
            same("NodeCreated " + top, reader.event());
            reader.zk.exists(top, reader.watcher());
            writer.zk.setData(top, null, -1);
            same("NodeDataChanged " + top, reader.event());
            reader.zk.exists(top, reader.watcher());
            writer.zk.delete(top, -1);
            same("NodeDeleted " + top, reader.event());
        }
    }

    private static void childWatch(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            reader.zk.getChildren(top, reader.watcher());
            writer.zk.setData(top, null, -1);
            create(writer.zk, top + "/a");
            same("NodeChildrenChanged " + top, reader.event());
            reader.zk.getChildren(top, reader.watcher());
            writer.zk.delete(top + "/a", -1);
            same("NodeChildrenChanged " + top, reader.event());
            reader.zk.getChildren(top, reader.watcher());
            writer.zk.delete(top, -1);
            same("NodeDeleted " + top, reader.event());
        }
    }

    /** The reader polls while it holds a watch: the new value must not be read before the event is there. */
    private static void eventBeforeData(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            for (int i = 0; i < 200; i++) {
                List<String> order = Collections.synchronizedList(new ArrayList<>());
                int version = i;
                reader.zk.getData(top, event -> order.add("event"), null);
                CountDownLatch written = new CountDownLatch(1);
                writer.zk.setData(top, bytes("" + i), i, (rc, path, ctx, stat) -> written.countDown(), null);
                CountDownLatch seen = new CountDownLatch(1);
                long deadline = System.nanoTime() + 10_000_000_000L;
                while (seen.getCount() != 0) {
                    yes(System.nanoTime() < deadline, "the new value is read");
                    CountDownLatch answered = new CountDownLatch(1);
                    reader.zk.getData(top, false, (rc, path, ctx, data, stat) -> {
                        if (version < stat.getVersion() && seen.getCount() != 0) {
                            order.add("data");
                            seen.countDown();
                        }
                        answered.countDown();
                    }, null);
                    Client.await(answered);
                }
                Client.await(written);
                same(List.of("event", "data"), order);
            }
        }
    }

    private static void ephemeralClose(Server server, String top) throws Exception {
        try (Client watcher = new Client(server)) {
            create(watcher.zk, top);
            Client owner = new Client(server);
            owner.zk.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            same(owner.zk.getSessionId(), watcher.zk.exists(top + "/e", watcher.watcher()).getEphemeralOwner());
            owner.close();
            same("NodeDeleted " + top + "/e", watcher.event());
            same(List.of(), watcher.zk.getChildren(top, false));
        }
    }

    private static void ephemeralExpiry(Server server, String top) throws Exception {
        try (Client watcher = new Client(server); Link link = new Link(server)) {
            Client owner = new Client(link, 1000);
            owner.zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            watcher.zk.exists(top, watcher.watcher());
            long started = System.nanoTime();
            // The process behind the session falls silent: no close, no ping, no connection.
            link.cut();
            same("NodeDeleted " + top, watcher.event());
            double seconds = (System.nanoTime() - started) / 1e9;
            // Pings may have touched the session up to the cut, and no earlier than a third of the timeout before it.
            yes(0.5 < seconds && seconds < 5, "expired after " + seconds + " s with a timeout of 1 s");
            link.restore();
            owner.awaitState(KeeperState.Expired);
            owner.close();
        }
    }

    /** Only its pings are heard, for several times its timeout. */
    private static void idle(Server server, String top) throws Exception {
        try (Client owner = new Client(server.hosts(), 1500); Client witness = new Client(server)) {
            same(1500, owner.zk.getSessionTimeout());
            owner.zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            owner.states.clear();
            Thread.sleep(4 * 1500);
            same(owner.zk.getSessionId(), witness.zk.exists(top, false).getEphemeralOwner());
            yes(owner.states.isEmpty(), "it stayed connected: " + owner.states);
        }
    }

    private static void resume(Server server, String top) throws Exception {
        try (Link link = new Link(server)) {
            // Cut off, or the first client would take the session back at once.
            Client first = new Client(link, 8000);
            first.zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            link.cut();
            try (Client second = new Client(server, first.zk.getSessionId(), first.zk.getSessionPasswd())) {
                second.awaitState(KeeperState.SyncConnected);
                same(first.zk.getSessionId(), second.zk.getSessionId());
                same(second.zk.getSessionId(), second.zk.exists(top, false).getEphemeralOwner());
            }
            try (Client third = new Client(server)) {
                same(null, third.zk.exists(top, false));
            }
            link.restore();
            first.awaitState(KeeperState.Expired);
            first.close();
        }
    }

    private static void wrongPassword(Server server, String top) throws Exception {
        try (Client owner = new Client(server)) {
            owner.zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            try (Client thief = new Client(server, owner.zk.getSessionId(), new byte[16])) {
                thief.awaitState(KeeperState.Expired);
            }
            // The owner may lose its connection over this, never its session.
            long deadline = System.nanoTime() + 10_000_000_000L;
            Stat stat = null;
            while (stat == null) {
                try {
                    stat = owner.zk.exists(top, false);
                } catch (KeeperException.ConnectionLossException again) {
                    yes(System.nanoTime() < deadline, "the owner is connected again");
                    Thread.sleep(50);
                }
            }
            same(owner.zk.getSessionId(), stat.getEphemeralOwner());
        }
    }

    private static void expired(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client witness = new Client(server)) {
            Client owner = new Client(link, 8000);
            owner.zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            link.cut();
            Client other = new Client(server, owner.zk.getSessionId(), owner.zk.getSessionPasswd());
            other.awaitState(KeeperState.SyncConnected);
            other.close();
            link.restore();
            owner.awaitState(KeeperState.Expired);
            fails(Code.SESSIONEXPIRED, () -> owner.zk.exists(top, false));
            owner.close();
            same(null, witness.zk.exists(top, false));
        }
    }

    /** The client reconnects by itself, keeps its session, and sets its watches again without being asked. */
    private static void restart(Server server, String top, boolean kill) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            zk.setData(top, bytes("kept"), 0);
            zk.create(top + "/e", bytes("mine"), Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            zk.create(top + "/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
            Stat before = new Stat();
            zk.getData(top, client.watcher(), before);
            zk.getChildren(top, client.watcher());
            zk.exists(top + "/later", client.watcher());
            long session = zk.getSessionId();
            client.states.clear();
            bounce(server, kill);
            client.awaitState(KeeperState.SyncConnected);
            same(session, zk.getSessionId());
            Stat after = new Stat();
            same("kept", text(zk.getData(top, false, after)));
            same(before, after);
            same(session, zk.exists(top + "/e", false).getEphemeralOwner());
            yes(client.events.isEmpty(), "nothing has changed, so nothing is told");
            try (Client other = new Client(server)) {
                other.zk.setData(top, bytes("new"), 1);
                same("NodeDataChanged " + top, client.event());
                create(other.zk, top + "/later");
                same(new TreeSet<>(List.of("NodeCreated " + top + "/later", "NodeChildrenChanged " + top)),
                        new TreeSet<>(List.of(client.event(), client.event())));
                String next = other.zk.create(
                        top + "/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
                same(top + "/s-0000000003", next);
            }
        }
        try (Client witness = new Client(server)) {
            same(null, witness.zk.exists(top + "/e", false));
        }
    }

    /** Another client is faster after the restart: what it changes is told when the first one sets its watches. */
    private static void missedChanges(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client client = new Client(link, 10_000)) {
            ZooKeeper zk = client.zk;
            for (String path : List.of("", "/changed", "/deleted", "/folder", "/same")) {
                create(zk, top + path);
            }
            zk.getData(top + "/changed", client.watcher(), null);
            zk.getData(top + "/deleted", client.watcher(), null);
            zk.getChildren(top + "/folder", client.watcher());
            zk.exists(top + "/born", client.watcher());
            zk.getData(top + "/same", client.watcher(), null);
            long session = zk.getSessionId();
            byte[] password = zk.getSessionPasswd();
            link.cut();
            server.kill();
            server.start();
            try (Client other = new Client(server)) {
                other.zk.setData(top + "/changed", bytes("x"), -1);
                other.zk.delete(top + "/deleted", -1);
                create(other.zk, top + "/folder/x");
                create(other.zk, top + "/born");
                link.restore();
                List<String> told = new ArrayList<>();
                for (int i = 0; i < 4; i++) {
                    told.add(client.event().replace(top, ""));
                }
                same(new TreeSet<>(List.of("NodeDataChanged /changed", "NodeDeleted /deleted",
                        "NodeChildrenChanged /folder", "NodeCreated /born")), new TreeSet<>(told));
                same(session, zk.getSessionId());
                yes(Arrays.equals(password, zk.getSessionPasswd()), "the password stays");
                other.zk.setData(top + "/same", bytes("x"), -1);
                same("NodeDataChanged " + top + "/same", client.event());
            }
        }
    }

    private static void bounce(Server server, boolean kill) throws Exception {
        if (kill) {
            server.kill();
        } else {
            server.stop();
        }
        server.start();
    }
}
