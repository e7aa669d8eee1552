// Load counts: every worker says how much it has to do, work goes to the one with the least, and a worker that dies
// takes its count with it. Beside them one total, counted by all.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/LoadCounts.java 127.0.0.1:2181

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;

public class LoadCounts {
    static final String TOP = "/examples/java/load";

    /** A process that works: its load is the data of an ephemeral znode. */
    static class Worker {
        final CuratorFramework client;
        final String path;
        final DistributedAtomicLong total;
        int load;

        Worker(String servers, String name) throws Exception {
            client = connect(servers);
            path = TOP + "/workers/" + name;
            client.create().creatingParentsIfNeeded().withMode(CreateMode.EPHEMERAL).forPath(path, bytes(0));
            total = new DistributedAtomicLong(client, TOP + "/total", new RetryNTimes(100, 10));
        }

        void accept() throws Exception {
            load++;
            client.setData().forPath(path, bytes(load));
            AtomicValue<Long> counted = total.increment();
            check(counted.succeeded(), "an increment was lost");
        }
    }

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        try (CuratorFramework dispatcher = connect(servers)) {
            dispatcher.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);
            dispatcher.create().creatingParentsIfNeeded().forPath(TOP + "/workers", new byte[0]);
            Map<String, Worker> workers = new TreeMap<>();
            for (String name : List.of("ann", "bob", "cid")) {
                workers.put(name, new Worker(servers, name));
            }
            try (CuratorCache loads = CuratorCache.build(dispatcher, TOP + "/workers")) {
                loads.start();
                for (int i = 0; i < 12; i++) {
                    await(loads, workers);
                    workers.get(leastLoaded(loads)).accept();
                }
                await(loads, workers);
                System.out.println("loads: " + seen(loads));
                check(seen(loads).equals(Map.of("ann", 4, "bob", 4, "cid", 4)), "the work was not spread evenly");

                workers.remove("bob").client.close();
                await(loads, workers);
                for (int i = 0; i < 6; i++) {
                    await(loads, workers);
                    workers.get(leastLoaded(loads)).accept();
                }
                await(loads, workers);
                System.out.println("without bob: " + seen(loads));
                check(seen(loads).equals(Map.of("ann", 7, "cid", 7)), "the work was not spread evenly");
            }

            // Everybody at once on the one total: an increment that another one overtook is tried again.
            List<Thread> threads = new ArrayList<>();
            for (Worker worker : workers.values()) {
                Thread thread = new Thread(() -> {
                    try {
                        for (int i = 0; i < 20; i++) {
                            worker.accept();
                        }
                    } catch (Exception failed) {
                        failed.printStackTrace();
                    }
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
            long total =
                    new DistributedAtomicLong(dispatcher, TOP + "/total", new RetryNTimes(3, 10)).get().postValue();
            System.out.println("total: " + total);
            check(total == 12 + 6 + 2 * 20, "increments were lost");
            workers.values().forEach(worker -> worker.client.close());
        }
        System.out.println("load counts: done");
    }

    static Map<String, Integer> seen(CuratorCache loads) {
        Map<String, Integer> seen = new TreeMap<>();
        loads.stream().filter(node -> !node.getPath().endsWith("/workers")).forEach(node -> seen.put(
                node.getPath().substring(node.getPath().lastIndexOf('/') + 1),
                Integer.parseInt(new String(node.getData(), StandardCharsets.UTF_8))));
        return seen;
    }

    static String leastLoaded(CuratorCache loads) {
        return seen(loads).entrySet().stream().min(Map.Entry.comparingByValue()).orElseThrow().getKey();
    }

    /** The dispatcher is told of every change, a moment later. */
    static void await(CuratorCache loads, Map<String, Worker> workers) throws Exception {
        Map<String, Integer> expected = new TreeMap<>();
        workers.forEach((name, worker) -> expected.put(name, worker.load));
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!seen(loads).equals(expected)) {
            check(System.nanoTime() < deadline, "the dispatcher sees " + seen(loads) + ", not " + expected);
            Thread.sleep(5);
        }
    }

    static CuratorFramework connect(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(servers, new ExponentialBackoffRetry(100, 8));
        client.start();
        check(client.blockUntilConnected(30, TimeUnit.SECONDS), "no connection to " + servers);
        return client;
    }

    static byte[] bytes(int number) {
        return String.valueOf(number).getBytes(StandardCharsets.UTF_8);
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
