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
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.data.Stat;

/**
 * A connection that ends between a request and its reply: the client does not know whether it was done. With protection
 * it must find out, and have exactly one znode in the end.
 */
final class LostConnections {
    private static final int[] CREATES = {Link.CREATE, Link.CREATE2, Link.CREATE_CONTAINER, Link.CREATE_TTL};

    private LostConnections() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a protected create whose reply is lost finds its znode",
                (server, top) -> protectedCreate(server, top, Link.Loss.REPLY));
        suite.add("a protected create whose request is lost creates its znode",
                (server, top) -> protectedCreate(server, top, Link.Loss.REQUEST));
        suite.add("a protected create in the background", LostConnections::inBackground);
        suite.add("a protected ephemeral whose session ends is created once more", LostConnections::sessionEnds);
        suite.add("an unprotected create meets what it made", LostConnections::unprotected);
        suite.add("idempotent create, set and delete", LostConnections::idempotent);
        suite.add("a guaranteed delete is done in the end", LostConnections::guaranteedDelete);
        suite.add("a mutex whose create lost its reply is held once", LostConnections::mutex);
        suite.add("a mutex whose release lost its reply is free", LostConnections::release);
        suite.add("a lease whose create lost its reply is one lease", LostConnections::lease);
        suite.add("a latch whose create lost its reply takes part once", LostConnections::latch);
        suite.add("a persistent node whose create lost its reply is kept", LostConnections::persistentNode);
    }

    private static void protectedCreate(Server server, String top, Link.Loss loss) throws Exception {
        List<CreateMode> modes = List.of(CreateMode.PERSISTENT, CreateMode.PERSISTENT_SEQUENTIAL, CreateMode.EPHEMERAL,
                CreateMode.EPHEMERAL_SEQUENTIAL, CreateMode.CONTAINER);
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            for (int i = 0; i < modes.size(); i++) {
                CreateMode mode = modes.get(i);
                String folder = top + "/" + mode;
                witness.create().creatingParentsIfNeeded().forPath(folder);
                link.lose(loss, CREATES);
                String path = client.create().withProtection().withMode(mode).forPath(folder + "/n-", bytes("x"));
                same(i + 1, link.losses());
                List<String> children = witness.getChildren().forPath(folder);
                same(1, children.size());
                same(path, folder + "/" + children.get(0));
                yes(children.get(0).startsWith("_c_"), children.get(0));
                Stat stat = new Stat();
                same("x", text(witness.getData().storingStatIn(stat).forPath(path)));
                long session = client.getZookeeperClient().getZooKeeper().getSessionId();
                same(mode.isEphemeral() ? session : 0L, stat.getEphemeralOwner());
                // There never was a second one.
                same(1, witness.checkExists().forPath(folder).getCversion());
            }
        }
    }

    private static void inBackground(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            witness.create().forPath(top);
            link.lose(Link.Loss.REPLY, CREATES);
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(1);
            client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).inBackground((same, event) -> {
                found.add(event.getResultCode() + " " + event.getName());
                done.countDown();
            }).forPath(top + "/n-");
            Client.await(done);
            same(1, link.losses());
            List<String> children = witness.getChildren().forPath(top);
            same(1, children.size());
            same(List.of("0 " + top + "/" + children.get(0)), found);
        }
    }

    /** The znode was created, but died with its session while the client was away: it must not be taken for found. */
    private static void sessionEnds(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SHORT_SESSION_MS)) {
            witness.create().forPath(top);
            long before = client.getZookeeperClient().getZooKeeper().getSessionId();
            link.loseAndCut(Link.Loss.REPLY, CREATES);
            Thread healer = new Thread(() -> {
                try {
                    soon("it was lost", () -> link.losses() == 1);
                    soon("the first one died", () -> witness.getChildren().forPath(top).isEmpty()
                            && witness.checkExists().forPath(top).getCversion() == 2);
                    link.restore();
                } catch (Exception failed) {
                    throw new AssertionError(failed);
                }
            });
            healer.start();
            String path = client.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                    .forPath(top + "/n-");
            healer.join();
            long after = client.getZookeeperClient().getZooKeeper().getSessionId();
            yes(before != after, "it is another session");
            same(after, witness.checkExists().forPath(path).getEphemeralOwner());
            same(1, witness.getChildren().forPath(top).size());
        }
    }

    private static void unprotected(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            link.lose(Link.Loss.REPLY, CREATES);
            fails(Code.NODEEXISTS, () -> client.create().forPath(top, bytes("x")));
            same(1, link.losses());
            same("x", text(client.getData().forPath(top)));
        }
    }

    private static void idempotent(Server server, String top) throws Exception {
        for (Link.Loss loss : Link.Loss.values()) {
            try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
                link.lose(loss, CREATES);
                same(top, client.create().idempotent().forPath(top, bytes("1")));
                link.lose(loss, Link.SET_DATA);
                same(1, client.setData().idempotent().withVersion(0).forPath(top, bytes("2")).getVersion());
                link.lose(loss, Link.DELETE);
                client.delete().idempotent().withVersion(1).forPath(top);
                same(3, link.losses());
                same(null, client.checkExists().forPath(top));
            }
        }
    }

    private static void guaranteedDelete(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.builder(link.hosts(), Curators.SESSION_MS)
                        .retryPolicy(new RetryNTimes(1, 50)).build()) {
            client.start();
            yes(client.blockUntilConnected(Client.SECONDS_MAX, TimeUnit.SECONDS), "it connects");
            client.create().forPath(top);
            link.cut();
            try {
                client.delete().guaranteed().forPath(top);
                throw new AssertionError("deleted without a connection");
            } catch (KeeperException.ConnectionLossException expected) {
                yes(witness.checkExists().forPath(top) != null, "nobody could delete it yet");
            }
            link.restore();
            soon("it is gone", () -> witness.checkExists().forPath(top) == null);
        }
    }

    private static void mutex(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            InterProcessMutex theirs = new InterProcessMutex(witness, top);
            for (Link.Loss loss : Link.Loss.values()) {
                theirs.acquire();
                theirs.release();
                InterProcessMutex mutex = new InterProcessMutex(client, top);
                link.lose(loss, CREATES);
                yes(mutex.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is free");
                same(1, witness.getChildren().forPath(top).size());
                yes(!theirs.acquire(200, TimeUnit.MILLISECONDS), "it is held");
                mutex.release();
                // A znode forgotten here would lock everybody out.
                yes(theirs.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is released");
                theirs.release();
            }
            same(2, link.losses());
        }
    }

    private static void release(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            InterProcessMutex theirs = new InterProcessMutex(witness, top);
            for (Link.Loss loss : Link.Loss.values()) {
                InterProcessMutex mutex = new InterProcessMutex(client, top);
                mutex.acquire();
                link.lose(loss, Link.DELETE);
                mutex.release();
                yes(theirs.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is released");
                theirs.release();
            }
            same(2, link.losses());
        }
    }

    private static void lease(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS)) {
            InterProcessSemaphoreV2 theirs = new InterProcessSemaphoreV2(witness, top, 2);
            theirs.returnLease(theirs.acquire());
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, top, 2);
            link.lose(Link.Loss.REPLY, CREATES);
            Lease lease = semaphore.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS);
            same(1, link.losses());
            yes(lease != null, "there is a lease");
            Lease other = theirs.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS);
            yes(other != null, "there is another one");
            semaphore.returnLease(lease);
            theirs.returnLease(other);
            soon("both are back", () -> theirs.getParticipantNodes().isEmpty());
        }
    }

    private static void latch(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS);
                LeaderLatch latch = new LeaderLatch(client, top)) {
            witness.create().forPath(top);
            link.lose(Link.Loss.REPLY, CREATES);
            latch.start();
            soon("it leads", latch::hasLeadership);
            same(1, link.losses());
            // What the lost reply spoke of is deleted, or was found.
            soon("it takes part once", () -> witness.getChildren().forPath(top).size() == 1);
            yes(latch.hasLeadership(), "and leads still");
        }
    }

    private static void persistentNode(Server server, String top) throws Exception {
        try (CuratorFramework witness = Curators.open(server); Link link = new Link(server);
                CuratorFramework client = Curators.open(link, Curators.SESSION_MS);
                PersistentNode node = new PersistentNode(client, CreateMode.EPHEMERAL, false, top + "/n", bytes("x"))) {
            witness.create().forPath(top);
            link.lose(Link.Loss.REPLY, CREATES);
            node.start();
            yes(node.waitForInitialCreate(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is created");
            same(1, link.losses());
            same(List.of("n"), witness.getChildren().forPath(top));
            long session = client.getZookeeperClient().getZooKeeper().getSessionId();
            same(session, witness.checkExists().forPath(top + "/n").getEphemeralOwner());
            witness.delete().forPath(top + "/n");
            soon("it is back", () -> witness.checkExists().forPath(top + "/n") != null);
            same("x", text(witness.getData().forPath(top + "/n")));
        }
    }
}
