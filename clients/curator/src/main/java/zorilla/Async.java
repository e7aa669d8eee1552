package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.x.async.AsyncCuratorFramework;
import org.apache.curator.x.async.AsyncStage;
import org.apache.curator.x.async.modeled.JacksonModelSerializer;
import org.apache.curator.x.async.modeled.ModelSpec;
import org.apache.curator.x.async.modeled.ModeledFramework;
import org.apache.curator.x.async.modeled.ZPath;
import org.apache.curator.x.async.modeled.cached.CachedModeledFramework;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;

/** The asynchronous face of Curator, and znodes as values of a type. */
final class Async {
    private Async() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("asynchronous operations, chained", Async::chained);
        suite.add("asynchronous watches", Async::watches);
        suite.add("asynchronous transactions", Async::transactions);
        suite.add("modeled znodes and their cache", Async::modeled);
    }

    private static <T> T get(CompletionStage<T> stage) throws Exception {
        try {
            return stage.toCompletableFuture().get(Client.SECONDS_MAX, TimeUnit.SECONDS);
        } catch (ExecutionException failed) {
            throw failed.getCause() instanceof Exception cause ? cause : failed;
        }
    }

    private static void chained(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            AsyncCuratorFramework async = AsyncCuratorFramework.wrap(client);
            String found = get(async.create().forPath(top, bytes("1"))
                    .thenCompose(path -> async.setData().forPath(path, bytes("2")))
                    .thenCompose(stat -> async.getData().forPath(top))
                    .thenCompose(data -> async.delete().forPath(top).thenApply(nothing -> text(data))));
            same("2", found);
            same(null, get(async.checkExists().forPath(top)));
            Check.fails(KeeperException.Code.NONODE, () -> get(async.getData().forPath(top)));
        }
    }

    private static void watches(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server)) {
            AsyncCuratorFramework async = AsyncCuratorFramework.wrap(client);
            writer.create().forPath(top);
            AsyncStage<byte[]> stage = async.watched().getData().forPath(top);
            get(stage);
            List<String> told = Collections.synchronizedList(new ArrayList<>());
            Watcher watcher = event -> told.add(event.getType() + " " + event.getPath());
            get(async.addWatch().withMode(AddWatchMode.PERSISTENT_RECURSIVE).usingWatcher(watcher).forPath(top));
            writer.setData().forPath(top, bytes("x"));
            WatchedEvent event = get(stage.event());
            same(Watcher.Event.EventType.NodeDataChanged, event.getType());
            writer.create().forPath(top + "/a");
            soon("both were told", () -> told.size() == 2);
            same(List.of("NodeDataChanged " + top, "NodeCreated " + top + "/a"), told);
            get(async.removeWatches().removing(watcher).forPath(top));
            writer.delete().forPath(top + "/a");
            get(async.getData().forPath(top));
            yes(!told.contains("NodeDeleted " + top + "/a"), "it was removed");
        }
    }

    private static void transactions(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            AsyncCuratorFramework async = AsyncCuratorFramework.wrap(client);
            List<CuratorTransactionResult> results = get(async.transaction().forOperations(List.of(
                    async.transactionOp().create().forPath(top, bytes("1")),
                    async.transactionOp().create().forPath(top + "/a"),
                    async.transactionOp().setData().withVersion(0).forPath(top, bytes("2")))));
            same(1, results.get(2).getResultStat().getVersion());
            Check.fails(KeeperException.Code.NOTEMPTY, () -> get(async.transaction().forOperations(List.of(
                    async.transactionOp().create().forPath(top + "/b"),
                    async.transactionOp().delete().forPath(top)))));
            same(List.of("a"), get(async.getChildren().forPath(top)));
        }
    }

    private static void modeled(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework reading = Curators.open(server)) {
            ModelSpec<String> spec =
                    ModelSpec.builder(ZPath.parse(top), JacksonModelSerializer.build(String.class)).build();
            ModeledFramework<String> writer = ModeledFramework.wrap(AsyncCuratorFramework.wrap(client), spec);
            CachedModeledFramework<String> cache =
                    ModeledFramework.wrap(AsyncCuratorFramework.wrap(reading), spec).cached();
            cache.start();
            get(writer.set("top"));
            for (String name : List.of("a", "b", "c")) {
                get(writer.child(name).set("of " + name));
            }
            get(writer.child("b").update("new"));
            get(writer.child("c").delete());
            same("new", get(writer.child("b").read()));
            soon("the cache is the tree", () -> {
                TreeSet<String> all = new TreeSet<>(get(cache.list()));
                return all.equals(new TreeSet<>(List.of("top", "of a", "new")));
            });
            get(writer.inTransaction(List.of(writer.child("d").createOp("of d"), writer.child("a").deleteOp())));
            same(2, get(writer.children()).size());
            cache.close();
        }
    }
}
