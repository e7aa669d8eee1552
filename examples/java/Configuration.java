// Configuration push: whoever runs with a setting is told when it changes; nobody asks again and again.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/Configuration.java 127.0.0.1:2181

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.data.Stat;

public class Configuration {
    static final String TOP = "/examples/java/configuration";

    /** One process that runs with the settings: its copy of them follows every change. */
    static class Worker implements AutoCloseable {
        final CuratorFramework client;
        final CuratorCache settings;

        Worker(String servers) throws Exception {
            client = connect(servers);
            settings = CuratorCache.build(client, TOP);
            settings.listenable().addListener((type, before, after) -> {
                if (before != null && after != null && after.getData().length != 0) {
                    String change = text(before.getData()) + " -> " + text(after.getData());
                    System.out.println(after.getPath() + ": " + change);
                }
            });
            settings.start();
        }

        Map<String, String> seen() {
            Map<String, String> seen = new TreeMap<>();
            settings.stream().filter(node -> !node.getPath().equals(TOP)).forEach(
                    node -> seen.put(node.getPath().substring(TOP.length() + 1), text(node.getData())));
            return seen;
        }

        @Override
        public void close() {
            settings.close();
            client.close();
        }
    }

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        List<Worker> workers = new ArrayList<>();
        try (CuratorFramework operator = connect(servers)) {
            operator.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);
            operator.create().creatingParentsIfNeeded().forPath(TOP, new byte[0]);
            operator.create().forPath(TOP + "/log-level", bytes("info"));
            operator.create().forPath(TOP + "/workers", bytes("4"));
            for (int i = 0; i < 3; i++) {
                workers.add(new Worker(servers));
            }
            await(workers, Map.of("log-level", "info", "workers", "4"));

            operator.setData().forPath(TOP + "/log-level", bytes("debug"));
            await(workers, Map.of("log-level", "debug", "workers", "4"));

            // Settings that belong together change together: nobody sees one without the other on the server.
            operator.transaction().forOperations(
                    operator.transactionOp().setData().forPath(TOP + "/log-level", bytes("warn")),
                    operator.transactionOp().delete().forPath(TOP + "/workers"),
                    operator.transactionOp().create().forPath(TOP + "/threads", bytes("8")));
            await(workers, Map.of("log-level", "warn", "threads", "8"));

            // Two operators at once: who writes names the version that was read, and the second one is refused.
            Stat read = new Stat();
            operator.getData().storingStatIn(read).forPath(TOP + "/threads");
            operator.setData().withVersion(read.getVersion()).forPath(TOP + "/threads", bytes("16"));
            try {
                operator.setData().withVersion(read.getVersion()).forPath(TOP + "/threads", bytes("32"));
                throw new IllegalStateException("an update that nobody saw was overwritten");
            } catch (KeeperException.BadVersionException changedMeanwhile) {
                System.out.println("refused: the setting had changed since it was read");
            }
            await(workers, Map.of("log-level", "warn", "threads", "16"));
        } finally {
            workers.forEach(Worker::close);
        }
        System.out.println("configuration: done");
    }

    static void await(List<Worker> workers, Map<String, String> expected) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        for (Worker worker : workers) {
            while (!worker.seen().equals(expected)) {
                check(System.nanoTime() < deadline, "a worker runs with " + worker.seen() + ", not " + expected);
                Thread.sleep(10);
            }
        }
        System.out.println("everybody runs with " + new TreeMap<>(expected));
    }

    static CuratorFramework connect(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(servers, new ExponentialBackoffRetry(100, 8));
        client.start();
        check(client.blockUntilConnected(30, TimeUnit.SECONDS), "no connection to " + servers);
        return client;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
