package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.yes;

import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.zookeeper.CreateMode;

/** Recipes whose folders are containers, and znodes with a time to live, on a server that reaps often. */
final class Reaped {
    private static final long INTERVAL_MS = 100;

    private Reaped() {
    }

    static void addTo(Suite suite) {
        suite.on("-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=" + INTERVAL_MS);
        suite.add("the folders of recipes go when nobody uses them", Reaped::folders);
        suite.add("a mutex works while its folder is reaped all the time", Reaped::busyMutex);
        suite.add("a TTL znode goes, and its protected create finds it", Reaped::ttl);
        suite.add("a TTL znode in a transaction", Reaped::ttlInTransaction);
        suite.add("a persistent TTL node lives while it is touched", Reaped::persistentTtl);
        suite.add("a persistent TTL node goes after its owner died", Reaped::ownerDies);
    }

    private static void folders(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            client.create().forPath(top);
            InterProcessMutex mutex = new InterProcessMutex(client, top + "/mutex");
            mutex.acquire();
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, top + "/semaphore", 1);
            var lease = semaphore.acquire();
            LeaderLatch latch = new LeaderLatch(client, top + "/latch");
            latch.start();
            latch.await();
            Thread.sleep(5 * INTERVAL_MS);
            same(3, other.getChildren().forPath(top).size());
            mutex.release();
            semaphore.returnLease(lease);
            latch.close();
            soon("all are gone", () -> other.getChildren().forPath(top).isEmpty());
            // And come back when they are wanted.
            yes(mutex.acquire(10, TimeUnit.SECONDS), "it is free");
            mutex.release();
        }
    }

    private static void busyMutex(Server server, String top) throws Exception {
        Curators.Room room = new Curators.Room();
        Curators.crew(3, index -> {
            try (CuratorFramework client = Curators.open(server)) {
                InterProcessMutex mutex = new InterProcessMutex(client, top + "/deep/lock");
                for (int i = 0; i < 15; i++) {
                    yes(mutex.acquire(45, TimeUnit.SECONDS), "it is free in the end");
                    room.enter(1);
                    Thread.sleep(2);
                    room.leave();
                    mutex.release();
                    // Long enough, often, for nobody to be there when the reaper looks.
                    Thread.sleep(i % 4 * INTERVAL_MS / 2);
                }
            }
        });
        try (CuratorFramework client = Curators.open(server)) {
            soon("all is gone", () -> client.checkExists().forPath(top) == null);
        }
    }

    private static void ttl(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            witness.create().forPath(top);
            link.lose(Link.Loss.REPLY, Link.CREATE_TTL);
            // The client looks for it after up to a second, and it shall live until then.
            String path = client.create().withTtl(3000).withProtection()
                    .withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL).forPath(top + "/t-", bytes("x"));
            same(1, link.losses());
            same(List.of(path.substring(top.length() + 1)), witness.getChildren().forPath(top));
            same(1, witness.checkExists().forPath(top).getCversion());
            soon("it is gone", () -> witness.checkExists().forPath(path) == null);
        }
    }

    private static void ttlInTransaction(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            client.transaction().forOperations(
                    client.transactionOp().create().forPath(top),
                    client.transactionOp().create().withTtl(500).withMode(CreateMode.PERSISTENT_WITH_TTL)
                            .forPath(top + "/t", bytes("x")));
            yes(client.checkExists().forPath(top + "/t") != null, "it was created");
            soon("it is gone", () -> client.checkExists().forPath(top + "/t") == null);
        }
    }

    private static void persistentTtl(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            try (PersistentTtlNode node = new PersistentTtlNode(client, top + "/n", 1000, bytes("x"))) {
                node.start();
                yes(node.waitForInitialCreate(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is created");
                long born = other.checkExists().forPath(top + "/n").getCzxid();
                Thread.sleep(2500);
                same(born, other.checkExists().forPath(top + "/n").getCzxid());
                other.delete().deletingChildrenIfNeeded().forPath(top + "/n");
                soon("it is back", () -> other.checkExists().forPath(top + "/n") != null);
            }
            soon("it is gone", () -> other.checkExists().forPath(top + "/n") == null);
        }
    }

    private static void ownerDies(Server server, String top) throws Exception {
        try (CuratorFramework other = Curators.open(server); Link link = new Link(server);
                CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
                PersistentTtlNode node = new PersistentTtlNode(dying, top + "/n", 1000, bytes("x"))) {
            node.start();
            yes(node.waitForInitialCreate(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is created");
            link.cut();
            // No session holds it: it goes because nobody touches it any more.
            soon("it is gone", () -> other.checkExists().forPath(top + "/n") == null);
            link.restore();
            soon("it is back", () -> other.checkExists().forPath(top + "/n") != null);
        }
    }
}
