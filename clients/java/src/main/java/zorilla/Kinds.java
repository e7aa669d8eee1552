package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.create;
import static zorilla.Check.fails;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** Kinds of znodes that end by themselves, and what is asked about many znodes at once. */
final class Kinds {
    /** The reaper looks this often; what it must not do is watched for several of its rounds. */
    private static final long INTERVAL_MS = 100;

    private Kinds() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("TTL znodes must be allowed", Kinds::ttlRefused);
        suite.add("getEphemerals", Kinds::getEphemerals);
        suite.add("getAllChildrenNumber", Kinds::allChildren);
        suite.on("-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=" + INTERVAL_MS);
        suite.add("a container goes after its last child", Kinds::container);
        suite.add("a container that never had a child stays", Kinds::unusedContainer);
        suite.add("containers of containers go one after the other", Kinds::nestedContainers);
        suite.add("a container is told of like any deletion", Kinds::containerWatches);
        suite.add("a TTL znode goes when its time is over", Kinds::ttl);
        suite.add("a TTL znode lives as long as it is written or has children", Kinds::ttlRenewed);
        suite.add("sequential TTL znodes", Kinds::ttlSequential);
        suite.add("containers and TTL znodes in a transaction", Kinds::inTransaction);
        suite.add("containers and TTL znodes go after a kill -9", Kinds::restart);
        suite.add("clients race with the reaper for a container", Kinds::race);
        suite.on("-Dznode.container.checkIntervalMs=" + INTERVAL_MS, "-Dznode.container.maxNeverUsedIntervalMs=300");
        suite.add("a container that was never used goes if so told", Kinds::neverUsed);
    }

    private static String container(ZooKeeper zk, String path) throws Exception {
        return zk.create(path, bytes("box"), Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER);
    }

    private static String ttl(ZooKeeper zk, String path, long ms) throws Exception {
        return zk.create(path, bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, new Stat(), ms);
    }

    private static void gone(ZooKeeper zk, String path) throws Exception {
        soon(path + " is gone", () -> zk.exists(path, false) == null);
    }

    private static void severalRounds() throws Exception {
        Thread.sleep(5 * INTERVAL_MS);
    }

    private static void ttlRefused(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            fails(Code.UNIMPLEMENTED, () -> ttl(client.zk, top, 1000));
            fails(Code.UNIMPLEMENTED, () -> client.zk.multi(List.of(
                    Op.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 1000))));
            same(null, client.zk.exists(top, false));
            // Containers are no extended type.
            same(top, container(client.zk, top));
        }
    }

    private static void getEphemerals(Server server, String top) throws Exception {
        try (Client client = new Client(server); Client other = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            create(zk, top + "/d");
            same(List.of(), zk.getEphemerals());
            for (String name : List.of("/a", "/b", "/d/c")) {
                zk.create(top + name, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            }
            other.zk.create(top + "/other", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            same(new TreeSet<>(List.of(top + "/a", top + "/b", top + "/d/c")), new TreeSet<>(zk.getEphemerals()));
            same(List.of(top + "/d/c"), zk.getEphemerals(top + "/d"));
            // What is asked for is how the path begins, not a folder.
            same(List.of(top + "/a"), zk.getEphemerals(top + "/a"));
            same(List.of(), zk.getEphemerals("/no"));
            same(List.of(top + "/other"), other.zk.getEphemerals("/"));
            zk.delete(top + "/a", -1);
            CountDownLatch done = new CountDownLatch(1);
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            zk.getEphemerals(top, (rc, ctx, paths) -> {
                found.addAll(paths);
                done.countDown();
            }, null);
            Client.await(done);
            same(new TreeSet<>(List.of(top + "/b", top + "/d/c")), new TreeSet<>(found));
        }
    }

    private static void allChildren(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            same(0, zk.getAllChildrenNumber(top));
            for (String name : List.of("/a", "/a/b", "/a/b/c", "/d")) {
                create(zk, top + name);
            }
            create(zk, top + "beside");
            same(4, zk.getAllChildrenNumber(top));
            same(2, zk.getAllChildrenNumber(top + "/a"));
            same(0, zk.getAllChildrenNumber(top + "/d"));
            fails(Code.NONODE, () -> zk.getAllChildrenNumber(top + "/no"));
            yes(4 < zk.getAllChildrenNumber("/"), "the root has more");
            CountDownLatch done = new CountDownLatch(1);
            List<Integer> found = Collections.synchronizedList(new ArrayList<>());
            zk.getAllChildrenNumber(top, (rc, path, ctx, number) -> {
                found.add(number);
                done.countDown();
            }, null);
            Client.await(done);
            same(List.of(4), found);
        }
    }

    private static void container(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            Stat stat = new Stat();
            same(top, zk.create(top, null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER, stat));
            same(stat, zk.exists(top, false));
            create(zk, top + "/a");
            zk.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            zk.delete(top + "/a", -1);
            severalRounds();
            same(List.of("e"), zk.getChildren(top, false));
            zk.delete(top + "/e", -1);
            gone(zk, top);
            fails(Code.NONODE, () -> create(zk, top + "/late"));
            // Clients may delete one as well.
            container(zk, top);
            zk.delete(top, 0);
            same(null, zk.exists(top, false));
        }
    }

    private static void unusedContainer(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            container(client.zk, top);
            severalRounds();
            yes(client.zk.exists(top, false) != null, "it waits for its first child");
            create(client.zk, top + "/a");
            client.zk.delete(top + "/a", -1);
            gone(client.zk, top);
        }
    }

    private static void nestedContainers(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            String path = top;
            container(client.zk, path);
            for (int i = 0; i < 5; i++) {
                path += "/" + i;
                container(client.zk, path);
            }
            create(client.zk, path + "/leaf");
            client.zk.delete(path + "/leaf", -1);
            gone(client.zk, top);
        }
    }

    private static void containerWatches(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            create(client.zk, top);
            container(client.zk, top + "/box");
            create(client.zk, top + "/box/a");
            client.zk.exists(top + "/box", client.watcher());
            client.zk.getChildren(top, client.watcher());
            client.zk.delete(top + "/box/a", -1);
            same(List.of("NodeDeleted " + top + "/box", "NodeChildrenChanged " + top), client.events(2));
            client.assertNoEvent();
        }
    }

    private static void ttl(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            long started = System.nanoTime();
            same(top + "/short", ttl(zk, top + "/short", 400));
            ttl(zk, top + "/long", 60_000);
            // To a client it is no ephemeral; what the server keeps of it does not show.
            same(0L, zk.exists(top + "/long", false).getEphemeralOwner());
            zk.exists(top + "/short", client.watcher());
            same("NodeDeleted " + top + "/short", client.event());
            double ms = (System.nanoTime() - started) / 1e6;
            yes(400 <= ms, "gone after " + ms + " of 400 ms");
            severalRounds();
            same(List.of("long"), zk.getChildren(top, false));
            zk.delete(top + "/long", 0);
        }
    }

    private static void ttlRenewed(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            long ttlMs = 1000;
            ttl(zk, top + "/written", ttlMs);
            ttl(zk, top + "/parent", 300);
            create(zk, top + "/parent/child");
            for (int i = 0; i < 10; i++) {
                Thread.sleep(ttlMs / 4);
                zk.setData(top + "/written", null, -1);
            }
            same(new TreeSet<>(List.of("written", "parent")), new TreeSet<>(zk.getChildren(top, false)));
            zk.delete(top + "/parent/child", -1);
            // Its time has been over for long: only the child kept it.
            gone(zk, top + "/parent");
            gone(zk, top + "/written");
        }
    }

    private static void ttlSequential(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            for (int i = 0; i < 3; i++) {
                Stat stat = new Stat();
                String path = zk.create(top + "/s-", null, Ids.OPEN_ACL_UNSAFE,
                        CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 1500);
                same(String.format("%s/s-%010d", top, i), path);
                same(stat, zk.exists(path, false));
            }
            soon("all are gone", () -> zk.getChildren(top, false).isEmpty());
            String next = zk.create(top + "/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
            same(top + "/s-0000000003", next);
        }
    }

    private static void inTransaction(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            List<OpResult> results = zk.multi(List.of(
                    Op.create(top + "/box", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                    Op.create(top + "/box/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.create(top + "/t", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, 700)));
            for (int i : new int[] {0, 2}) {
                OpResult.CreateResult result = (OpResult.CreateResult) results.get(i);
                same(result.getStat().getCzxid(), zk.exists(top + "/box", false).getCzxid());
            }
            gone(zk, top + "/t");
            zk.multi(List.of(Op.delete(top + "/box/x", -1)));
            gone(zk, top + "/box");
        }
    }

    private static void restart(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            container(zk, top + "/box");
            create(zk, top + "/box/a");
            container(zk, top + "/used");
            create(zk, top + "/used/a");
            ttl(zk, top + "/t", 1500);
            client.states.clear();
            zk.delete(top + "/used/a", -1);
            server.kill();
            server.start();
            client.awaitState(KeeperState.SyncConnected);
            gone(zk, top + "/used");
            gone(zk, top + "/t");
            same(List.of("box"), zk.getChildren(top, false));
            zk.delete(top + "/box/a", -1);
            gone(zk, top + "/box");
        }
    }

    /** Clients create and delete children all the time: a container must never be taken from under a child. */
    private static void race(Server server, String top) throws Exception {
        int clients = 3;
        long until = System.nanoTime() + 2_000_000_000L;
        List<Throwable> broken = Collections.synchronizedList(new ArrayList<>());
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < clients; i++) {
            String mine = top + "/" + i;
            Thread thread = new Thread(() -> {
                try (Client client = new Client(server)) {
                    for (int round = 0; System.nanoTime() < until; round++) {
                        try {
                            create(client.zk, mine);
                        } catch (KeeperException.NoNodeException reaped) {
                            try {
                                container(client.zk, top);
                            } catch (KeeperException.NodeExistsException another) {
                                // Some other client was faster.
                            }
                            continue;
                        }
                        Thread.sleep(round % 7);
                        client.zk.delete(mine, 0);
                        Thread.sleep(round % 5 * INTERVAL_MS / 2);
                    }
                } catch (Throwable error) {
                    broken.add(error);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        same(List.of(), broken);
        try (Client client = new Client(server)) {
            // Whoever created the container last may not have come to use it, and unused ones stay.
            try {
                create(client.zk, top + "/last");
                client.zk.delete(top + "/last", 0);
            } catch (KeeperException.NoNodeException reaped) {
                // Then it has been used.
            }
            gone(client.zk, top);
        }
    }

    private static void neverUsed(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            container(client.zk, top);
            gone(client.zk, top);
        }
    }
}
