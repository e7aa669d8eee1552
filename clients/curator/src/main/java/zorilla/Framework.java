package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.fails;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.WatcherRemoveCuratorFramework;
import org.apache.curator.framework.api.ACLProvider;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.framework.state.ConnectionStateListener;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Stat;

/** What the framework below the recipes asks of a server. */
final class Framework {
    private Framework() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("create, get, set, delete", Framework::crud);
        suite.add("parents are created and children deleted on the way", Framework::parents);
        suite.add("every create mode", Framework::modes);
        suite.add("a transaction does all or nothing", Framework::transaction);
        suite.add("a transaction in the background", Framework::transactionInBackground);
        suite.add("the background keeps its order", Framework::background);
        suite.add("namespaces", Framework::namespace);
        suite.add("ACLs of a provider, and of authorized clients", Framework::acls);
        suite.add("compressed data", Framework::compressed);
        suite.add("watchers: once, persistent, recursive, removed", Framework::watchers);
        suite.add("all watchers of one user are removed together", Framework::watcherRemoval);
        suite.add("the ensemble's configuration is read and watched", Framework::config);
        suite.add("connection states: suspended, reconnected, lost", Framework::states);
    }

    private static void crud(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            Stat stat = new Stat();
            same(top, client.create().storingStatIn(stat).forPath(top, bytes("1")));
            same(stat, client.checkExists().forPath(top));
            same("1", text(client.getData().storingStatIn(stat).forPath(top)));
            same(1, client.setData().withVersion(0).forPath(top, bytes("2")).getVersion());
            fails(Code.BADVERSION, () -> client.setData().withVersion(0).forPath(top, bytes("3")));
            fails(Code.NODEEXISTS, () -> client.create().forPath(top));
            client.create().orSetData().forPath(top, bytes("4"));
            same("4", text(client.getData().forPath(top)));
            same(List.of(), client.getChildren().storingStatIn(stat).forPath(top));
            same(2, stat.getVersion());
            client.sync().forPath(top);
            client.delete().withVersion(2).forPath(top);
            client.delete().quietly().forPath(top);
            same(null, client.checkExists().forPath(top));
        }
    }

    private static void parents(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            client.create().creatingParentsIfNeeded().forPath(top + "/a/b/c", bytes("x"));
            client.create().creatingParentsIfNeeded().withMode(CreateMode.EPHEMERAL).forPath(top + "/a/d/e");
            client.create().creatingParentContainersIfNeeded().forPath(top + "/boxes/x/y");
            client.checkExists().creatingParentsIfNeeded().forPath(top + "/asked/for");
            yes(client.checkExists().forPath(top + "/asked") != null, "asking made the parent");
            fails(Code.NOTEMPTY, () -> client.delete().forPath(top + "/a"));
            client.delete().deletingChildrenIfNeeded().forPath(top);
            same(null, client.checkExists().forPath(top));
        }
    }

    private static void modes(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server)) {
            witness.create().forPath(top);
            try (CuratorFramework client = Curators.open(server)) {
                same(top + "/p", client.create().withMode(CreateMode.PERSISTENT).forPath(top + "/p"));
                same(top + "/e", client.create().withMode(CreateMode.EPHEMERAL).forPath(top + "/e"));
                same(top + "/box", client.create().withMode(CreateMode.CONTAINER).forPath(top + "/box"));
                same(top + "/s0000000003",
                        client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(top + "/s"));
                same(top + "/s0000000004",
                        client.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(top + "/s"));
                fails(Code.UNIMPLEMENTED, () -> client.create().withTtl(1000)
                        .withMode(CreateMode.PERSISTENT_WITH_TTL).forPath(top + "/t"));
            }
            same(new TreeSet<>(List.of("p", "box", "s0000000003")), new TreeSet<>(witness.getChildren().forPath(top)));
        }
    }

    private static void transaction(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            client.create().forPath(top, bytes("0"));
            List<CuratorTransactionResult> results = client.transaction().forOperations(
                    client.transactionOp().check().withVersion(0).forPath(top),
                    client.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(top + "/s-"),
                    client.transactionOp().create().withMode(CreateMode.CONTAINER).forPath(top + "/box"),
                    client.transactionOp().create().withMode(CreateMode.EPHEMERAL).forPath(top + "/gone"),
                    client.transactionOp().setData().withVersion(0).forPath(top, bytes("1")),
                    client.transactionOp().delete().forPath(top + "/gone"));
            same(6, results.size());
            same(top + "/s-0000000000", results.get(1).getResultPath());
            same(1, results.get(4).getResultStat().getVersion());
            List<CuratorOp> failing = List.of(
                    client.transactionOp().create().forPath(top + "/a"),
                    client.transactionOp().setData().withVersion(0).forPath(top, bytes("2")),
                    client.transactionOp().create().forPath(top + "/b"));
            fails(Code.BADVERSION, () -> client.transaction().forOperations(failing));
            same("1", text(client.getData().forPath(top)));
            same(new TreeSet<>(List.of("s-0000000000", "box")), new TreeSet<>(client.getChildren().forPath(top)));
        }
    }

    private static void transactionInBackground(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(2);
            for (int i = 0; i < 2; i++) {
                client.transaction().inBackground((same, event) -> {
                    List<Integer> errors = new ArrayList<>();
                    event.getOpResults().forEach(result -> errors.add(result.getError()));
                    found.add(event.getResultCode() + " " + errors);
                    done.countDown();
                }).forOperations(
                        client.transactionOp().create().forPath(top),
                        client.transactionOp().create().forPath(top + "/a"));
            }
            Client.await(done);
            same(List.of("0 [0, 0]", "-110 [-110, -2]"), found);
        }
    }

    private static void background(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            int rounds = 200;
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            List<String> expected = new ArrayList<>(List.of("CREATE 0"));
            CountDownLatch done = new CountDownLatch(2 * rounds + 2);
            client.create().inBackground((same, event) -> {
                found.add(event.getType() + " " + event.getResultCode());
                done.countDown();
            }).forPath(top);
            for (int i = 0; i < rounds; i++) {
                client.setData().inBackground((same, event) -> {
                    found.add(event.getType() + " " + event.getStat().getVersion());
                    done.countDown();
                }).forPath(top, bytes("" + i));
                client.getData().inBackground((same, event) -> {
                    found.add(event.getType() + " " + text(event.getData()));
                    done.countDown();
                }).forPath(top);
                expected.addAll(List.of("SET_DATA " + (i + 1), "GET_DATA " + i));
            }
            client.delete().inBackground((same, event) -> {
                found.add(event.getType() + " " + event.getResultCode());
                done.countDown();
            }).forPath(top);
            expected.add("DELETE 0");
            Client.await(done);
            same(expected, found);
        }
    }

    private static void namespace(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            CuratorFramework inside = client.usingNamespace(top.substring(1) + "/space");
            same("/a", inside.create().forPath("/a", bytes("x")));
            same("x", text(client.getData().forPath(top + "/space/a")));
            CountDownLatch told = new CountDownLatch(1);
            inside.getData().usingWatcher((Watcher) event -> {
                if (event.getPath().equals("/a")) {
                    told.countDown();
                }
            }).forPath("/a");
            client.setData().forPath(top + "/space/a", bytes("y"));
            Client.await(told);
            same(List.of("a"), inside.getChildren().forPath("/"));
        }
    }

    private static void acls(Server server, String top) throws Exception {
        ACLProvider provider = new ACLProvider() {
            @Override
            public List<ACL> getDefaultAcl() {
                return Ids.CREATOR_ALL_ACL;
            }

            @Override
            public List<ACL> getAclForPath(String path) {
                return path.endsWith("/open") ? Ids.OPEN_ACL_UNSAFE : Ids.CREATOR_ALL_ACL;
            }
        };
        try (CuratorFramework owner = Curators.builder(server.hosts(), Curators.SESSION_MS)
                .authorization("digest", bytes("bob:secret")).aclProvider(provider).build();
                CuratorFramework other = Curators.open(server)) {
            owner.start();
            yes(owner.blockUntilConnected(Client.SECONDS_MAX, TimeUnit.SECONDS), "it connects");
            owner.create().creatingParentsIfNeeded().forPath(top + "/mine", bytes("x"));
            owner.create().forPath(top + "/open", bytes("y"));
            same("x", text(owner.getData().forPath(top + "/mine")));
            fails(Code.NOAUTH, () -> other.getData().forPath(top + "/mine"));
            fails(Code.NOAUTH, () -> other.getChildren().forPath(top));
            same("y", text(other.getData().forPath(top + "/open")));
            same("digest", owner.getACL().forPath(top + "/mine").get(0).getId().getScheme());
            owner.setACL().withVersion(0).withACL(Ids.READ_ACL_UNSAFE).forPath(top + "/mine");
            same("x", text(other.getData().forPath(top + "/mine")));
            fails(Code.NOAUTH, () -> other.setData().forPath(top + "/mine", bytes("z")));
        }
    }

    private static void compressed(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            byte[] data = new byte[500_000];
            client.create().compressed().forPath(top, data);
            same(data.length, client.getData().decompressed().forPath(top).length);
            yes(client.checkExists().forPath(top).getDataLength() < 10_000, "zeros compress well");
        }
    }

    private static void watchers(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server)) {
            writer.create().forPath(top);
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            Watcher once = event -> told.add("once " + event.getType());
            Watcher flat = event -> told.add("flat " + event.getType());
            Watcher deep = event -> told.add("deep " + event.getType() + " " + event.getPath().substring(top.length()));
            client.getData().usingWatcher(once).forPath(top);
            client.watchers().add().withMode(AddWatchMode.PERSISTENT).usingWatcher(flat).forPath(top);
            writer.create().forPath(top + "/a");
            writer.setData().forPath(top, bytes("1"));
            writer.setData().forPath(top, bytes("2"));
            soon("four events", () -> told.size() == 4);
            same(List.of("flat NodeChildrenChanged"), told.subList(0, 1));
            same(new TreeSet<>(List.of("flat NodeDataChanged", "once NodeDataChanged")),
                    new TreeSet<>(told.subList(1, 4)));
            client.watchers().remove(flat).ofType(Watcher.WatcherType.Any).forPath(top);
            soon("it is told so", () -> told.contains("flat PersistentWatchRemoved"));
            client.watchers().add().withMode(AddWatchMode.PERSISTENT_RECURSIVE).usingWatcher(deep).forPath(top + "/a");
            told.clear();
            writer.setData().forPath(top, bytes("3"));
            writer.create().forPath(top + "/a/b");
            writer.delete().forPath(top + "/a/b");
            soon("two events", () -> told.size() == 2);
            same(List.of("deep NodeCreated /a/b", "deep NodeDeleted /a/b"), told);
            client.watchers().removeAll().ofType(Watcher.WatcherType.Any).forPath(top + "/a");
            fails(Code.NOWATCHER, () -> client.watchers().removeAll().forPath(top + "/a"));
        }
    }

    private static void watcherRemoval(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server)) {
            writer.create().forPath(top);
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            WatcherRemoveCuratorFramework user = client.newWatcherRemoveCuratorFramework();
            Watcher watcher = event -> told.add("" + event.getType());
            user.getData().usingWatcher(watcher).forPath(top);
            user.getChildren().usingWatcher(watcher).forPath(top);
            user.checkExists().usingWatcher(watcher).forPath(top + "/a");
            user.removeWatchers();
            soon("all three are told so", () -> told.size() == 3);
            same(new TreeSet<>(List.of("ChildWatchRemoved", "DataWatchRemoved")), new TreeSet<>(told));
            told.clear();
            writer.setData().forPath(top, bytes("x"));
            writer.create().forPath(top + "/a");
            client.getData().forPath(top);
            same(List.of(), told);
        }
    }

    private static void config(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            byte[] data = client.getConfig().forEnsemble();
            same(0, data == null ? 0 : data.length);
            same("127.0.0.1:" + server.port, client.getZookeeperClient().getCurrentConnectionString());
        }
    }

    private static void states(Server server, String top) throws Exception {
        List<ConnectionState> told = Collections.synchronizedList(new ArrayList<>());
        // The first connection may still be told when the listener is there already.
        ConnectionStateListener changes = (client, state) -> {
            if (state != ConnectionState.CONNECTED) {
                told.add(state);
            }
        };
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            client.getConnectionStateListenable().addListener(changes);
            client.create().withMode(CreateMode.EPHEMERAL).forPath(top);
            link.breakAll();
            soon("it is back", () -> told.contains(ConnectionState.RECONNECTED));
            same(List.of(ConnectionState.SUSPENDED, ConnectionState.RECONNECTED), told);
            yes(client.checkExists().forPath(top) != null, "its session goes on");
        }
        told.clear();
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SHORT_SESSION_MS)) {
            client.getConnectionStateListenable().addListener(changes);
            client.create().withMode(CreateMode.EPHEMERAL).forPath(top);
            link.cut();
            soon("it is lost", () -> told.contains(ConnectionState.LOST));
            // Also the server has given up by now.
            Thread.sleep(Curators.SHORT_SESSION_MS);
            link.restore();
            soon("it is back", () -> told.contains(ConnectionState.RECONNECTED));
            same(List.of(ConnectionState.SUSPENDED, ConnectionState.LOST, ConnectionState.RECONNECTED), told);
            same(null, client.checkExists().forPath(top));
        }
    }
}
