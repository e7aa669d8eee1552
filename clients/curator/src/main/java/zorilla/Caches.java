package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;

/** Copies of parts of the tree that clients keep, and the persistent watcher below them. */
@SuppressWarnings("deprecation") // The older caches, on one-time watches, are what much running software has.
final class Caches {
    private Caches() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a cache of a tree becomes the tree after churn", Caches::treeChurn);
        suite.add("a cache tells every change, in order", Caches::events);
        suite.add("a cache of one znode", Caches::single);
        suite.add("a cache catches up with what it missed", Caches::missed);
        suite.add("a cache catches up after its session was lost", Caches::lostSession);
        suite.add("a cache goes on after kill -9 of the server", Caches::restart);
        suite.add("the older caches become the tree after churn", Caches::olderCaches);
        suite.add("the older caches catch up with what they missed", Caches::olderMissed);
        suite.add("a persistent watcher sees exactly the changes", Caches::watcher);
        suite.add("a persistent watcher survives reconnects", Caches::watcherReconnects);
    }

    /** Path and data of everything at and below {@code top}. */
    private static Map<String, String> tree(CuratorFramework client, String top) throws Exception {
        Map<String, String> found = new TreeMap<>();
        List<String> open = new ArrayList<>(List.of(top));
        while (!open.isEmpty()) {
            String path = open.remove(open.size() - 1);
            try {
                found.put(path, text(client.getData().forPath(path)));
                for (String child : client.getChildren().forPath(path)) {
                    open.add(path + "/" + child);
                }
            } catch (KeeperException.NoNodeException gone) {
                found.remove(path);
            }
        }
        return found;
    }

    private static Map<String, String> copy(CuratorCache cache) {
        Map<String, String> found = new TreeMap<>();
        cache.stream().forEach(child -> found.put(child.getPath(), text(child.getData())));
        return found;
    }

    private static CuratorCache started(CuratorFramework client, String top) throws Exception {
        CuratorCache cache = CuratorCache.build(client, top);
        CountDownLatch ready = new CountDownLatch(1);
        cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(ready::countDown).build());
        cache.start();
        Client.await(ready);
        return cache;
    }

    /**
     * Like {@link #churn}, with folders that stay. A cache that was away looks into a folder again if its number of
     * changes differs, so it does not see that one was replaced by another with as many.
     */
    private static void leafChurn(Server server, String top, int changes) throws Exception {
        Curators.crew(3, index -> {
            Random random = new Random(index);
            try (CuratorFramework client = Curators.open(server)) {
                for (int i = 0; i < changes; i++) {
                    String folder = top + "/" + random.nextInt(3);
                    String path = random.nextInt(5) == 0 ? folder : folder + "/" + random.nextInt(4);
                    try {
                        if (path.equals(folder) || random.nextInt(4) != 0) {
                            client.create().orSetData().creatingParentsIfNeeded().forPath(path, bytes(index + "-" + i));
                        } else {
                            client.delete().quietly().forPath(path);
                        }
                    } catch (KeeperException.NodeExistsException | KeeperException.NoNodeException another) {
                        // Another client was faster.
                    }
                }
            }
        });
    }

    /** Three clients change a small tree as fast as they can. */
    private static void churn(Server server, String top, int changes) throws Exception {
        Curators.crew(3, index -> {
            Random random = new Random(index);
            try (CuratorFramework client = Curators.open(server)) {
                for (int i = 0; i < changes; i++) {
                    String path = top + "/" + random.nextInt(5);
                    if (random.nextInt(3) == 0) {
                        path += "/" + random.nextInt(3);
                    }
                    try {
                        switch (random.nextInt(4)) {
                            case 0 -> client.create().creatingParentsIfNeeded().forPath(path, bytes(index + "-" + i));
                            case 1 -> client.delete().deletingChildrenIfNeeded().forPath(path);
                            default -> client.create().orSetData().creatingParentsIfNeeded()
                                    .forPath(path, bytes(index + "-" + i));
                        }
                    } catch (KeeperException.NodeExistsException | KeeperException.NoNodeException another) {
                        // Another client was faster.
                    }
                }
            }
        });
    }

    private static void converges(String what, Callable<Map<String, String>> truth, Callable<Map<String, String>> copy)
            throws Exception {
        try {
            soon(what, () -> truth.call().equals(copy.call()));
        } catch (AssertionError late) {
            same(truth.call(), copy.call());
        }
    }

    private static void treeChurn(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top, bytes("top"));
            churn(server, top, 20);
            try (CuratorCache before = started(client, top)) {
                same(tree(witness, top), copy(before));
                churn(server, top, 150);
                converges("the cache is the tree", () -> tree(witness, top), () -> copy(before));
                witness.delete().deletingChildrenIfNeeded().forPath(top);
                soon("the cache is empty", () -> before.size() == 0);
            }
        }
    }

    private static void events(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server);
                CuratorCache cache = started(client, top)) {
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            cache.listenable().addListener((type, before, after) -> {
                ChildData node = after == null ? before : after;
                told.add(type + " " + node.getPath().substring(top.length()) + " " + text(node.getData()));
            });
            List<String> expected = new ArrayList<>();
            List<Callable<?>> changes = List.of(
                    () -> writer.create().forPath(top, bytes("0")),
                    () -> writer.create().forPath(top + "/a", bytes("1")),
                    () -> writer.setData().forPath(top + "/a", bytes("2")),
                    () -> writer.create().forPath(top + "/a/b", bytes("3")),
                    () -> writer.setData().forPath(top, bytes("4")),
                    () -> writer.delete().forPath(top + "/a/b"),
                    () -> writer.delete().forPath(top + "/a"),
                    () -> writer.create().forPath(top + "/a", bytes("5")));
            List<String> events = List.of("NODE_CREATED  0", "NODE_CREATED /a 1", "NODE_CHANGED /a 2",
                    "NODE_CREATED /a/b 3", "NODE_CHANGED  4", "NODE_DELETED /a/b 3", "NODE_DELETED /a 2",
                    "NODE_CREATED /a 5");
            for (int i = 0; i < changes.size(); i++) {
                changes.get(i).call();
                expected.add(events.get(i));
                int count = i + 1;
                // A cache reads what it is told of: one change at a time, or it would see the last only.
                soon(events.get(i), () -> told.size() >= count);
                same(expected, told);
            }
        }
    }

    private static void single(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server);
                CuratorCache cache = CuratorCache.build(client, top, CuratorCache.Options.SINGLE_NODE_CACHE)) {
            cache.start();
            writer.create().forPath(top, bytes("1"));
            writer.create().forPath(top + "/a", bytes("child"));
            soon("it is there", () -> cache.get(top).filter(node -> text(node.getData()).equals("1")).isPresent());
            writer.setData().forPath(top, bytes("2"));
            soon("it changed", () -> cache.get(top).filter(node -> text(node.getData()).equals("2")).isPresent());
            same(1, cache.size());
            writer.delete().deletingChildrenIfNeeded().forPath(top);
            soon("it is gone", () -> cache.get(top).isEmpty());
        }
    }

    private static void missed(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SESSION_MS);
                CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top, bytes("top"));
            leafChurn(server, top, 20);
            try (CuratorCache cache = started(client, top)) {
                for (int round = 0; round < 2; round++) {
                    link.cut();
                    leafChurn(server, top, 40);
                    link.restore();
                    converges("the cache is the tree", () -> tree(witness, top), () -> copy(cache));
                }
                link.breakAll();
                leafChurn(server, top, 40);
                converges("the cache is the tree", () -> tree(witness, top), () -> copy(cache));
            }
        }
    }

    private static void lostSession(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SHORT_SESSION_MS);
                CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top, bytes("top"));
            AtomicReference<ConnectionState> lost = new AtomicReference<>();
            client.getConnectionStateListenable().addListener((same, state) -> {
                if (state == ConnectionState.LOST) {
                    lost.set(state);
                }
            });
            try (CuratorCache cache = started(client, top)) {
                long session = client.getZookeeperClient().getZooKeeper().getSessionId();
                link.cut();
                leafChurn(server, top, 40);
                soon("the session is lost", () -> lost.get() != null);
                // Also the server has given up by now.
                Thread.sleep(Curators.SHORT_SESSION_MS);
                link.restore();
                converges("the cache is the tree", () -> tree(witness, top), () -> copy(cache));
                yes(session != client.getZookeeperClient().getZooKeeper().getSessionId(), "it is another session");
                leafChurn(server, top, 20);
                converges("the cache is the tree", () -> tree(witness, top), () -> copy(cache));
            }
        }
    }

    private static void restart(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top, bytes("top"));
            leafChurn(server, top, 20);
            try (CuratorCache cache = started(client, top)) {
                server.kill();
                server.start();
                leafChurn(server, top, 40);
                converges("the cache is the tree", () -> tree(witness, top), () -> copy(cache));
            }
        }
    }

    /** The three older caches on one tree. */
    private static final class Older implements AutoCloseable {
        final TreeCache tree;
        final PathChildrenCache children;
        final NodeCache node;
        private final String top;

        Older(CuratorFramework client, String top) throws Exception {
            this.top = top;
            tree = new TreeCache(client, top);
            children = new PathChildrenCache(client, top, true);
            node = new NodeCache(client, top + "/0");
            tree.start();
            children.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
            node.start(true);
        }

        Map<String, String> copy() {
            Map<String, String> found = new TreeMap<>();
            List<String> open = new ArrayList<>(List.of(top));
            while (!open.isEmpty()) {
                String path = open.remove(open.size() - 1);
                ChildData data = tree.getCurrentData(path);
                Map<String, ChildData> below = tree.getCurrentChildren(path);
                if (data != null && below != null) {
                    found.put(path, text(data.getData()));
                    below.keySet().forEach(child -> open.add(path + "/" + child));
                }
            }
            return found;
        }

        void convergeTo(CuratorFramework witness) throws Exception {
            converges("the tree cache", () -> Caches.tree(witness, top), this::copy);
            converges("the children's cache", () -> {
                Map<String, String> truth = Caches.tree(witness, top);
                truth.keySet().removeIf(path -> path.substring(1).chars().filter(c -> c == '/').count() != 1);
                return truth;
            }, () -> {
                Map<String, String> found = new TreeMap<>();
                children.getCurrentData().forEach(child -> found.put(child.getPath(), text(child.getData())));
                return found;
            });
            converges("the znode's cache", () -> {
                Map<String, String> truth = Caches.tree(witness, top + "/0");
                truth.keySet().removeIf(path -> !path.equals(top + "/0"));
                return truth;
            }, () -> {
                ChildData data = node.getCurrentData();
                return data == null ? Map.of() : Map.of(top + "/0", text(data.getData()));
            });
        }

        @Override
        public void close() throws Exception {
            tree.close();
            children.close();
            node.close();
        }
    }

    private static void olderCaches(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top, bytes("top"));
            churn(server, top, 20);
            try (Older older = new Older(client, top)) {
                older.convergeTo(witness);
                churn(server, top, 100);
                older.convergeTo(witness);
            }
        }
    }

    private static void olderMissed(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SESSION_MS);
                CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top, bytes("top"));
            churn(server, top, 20);
            try (Older older = new Older(client, top)) {
                link.cut();
                churn(server, top, 40);
                link.restore();
                older.convergeTo(witness);
                churn(server, top, 20);
                older.convergeTo(witness);
            }
        }
    }

    private static PersistentWatcher started(CuratorFramework client, String top, List<String> told) throws Exception {
        PersistentWatcher watcher = new PersistentWatcher(client, top, true);
        CountDownLatch ready = new CountDownLatch(1);
        watcher.getResetListenable().addListener(ready::countDown);
        watcher.getListenable().addListener((WatchedEvent event) -> {
            if (event.getType() != Watcher.Event.EventType.None) {
                told.add(event.getType() + " " + event.getPath().substring(top.length()));
            }
        });
        watcher.start();
        Client.await(ready);
        return watcher;
    }

    private static void watcher(Server server, String top) throws Exception {
        List<String> told = Collections.synchronizedList(new ArrayList<>());
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server);
                PersistentWatcher watcher = started(client, top, told)) {
            writer.create().forPath(top);
            List<String> expected = new ArrayList<>(List.of("NodeCreated "));
            for (int i = 0; i < 100; i++) {
                String path = "/" + i;
                writer.create().forPath(top + path);
                writer.setData().forPath(top + path, bytes("x"));
                writer.delete().forPath(top + path);
                expected.addAll(List.of("NodeCreated " + path, "NodeDataChanged " + path, "NodeDeleted " + path));
            }
            writer.create().forPath(top + "beside");
            soon("everything was told", () -> told.size() >= expected.size());
            same(expected, told);
            watcher.close();
            client.getData().forPath(top);
            writer.setData().forPath(top, bytes("x"));
            client.sync().forPath(top);
            same(expected, told);
        }
    }

    private static void watcherReconnects(Server server, String top) throws Exception {
        List<String> told = Collections.synchronizedList(new ArrayList<>());
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SESSION_MS);
                CuratorFramework writer = Curators.open(server);
                PersistentWatcher watcher = started(client, top, told)) {
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                CountDownLatch back = new CountDownLatch(1);
                client.getConnectionStateListenable().addListener((same, state) -> {
                    if (state == ConnectionState.RECONNECTED) {
                        back.countDown();
                    }
                });
                link.breakAll();
                Client.await(back);
                yes(client.blockUntilConnected(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is back");
                client.checkExists().forPath("/");
                String path = "/" + i;
                writer.create().creatingParentsIfNeeded().forPath(top + path);
                if (i == 0) {
                    expected.add("NodeCreated ");
                }
                expected.add("NodeCreated " + path);
                soon("everything was told", () -> told.size() >= expected.size());
                same(expected, told);
            }
        }
    }
}
