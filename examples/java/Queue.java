// A queue: producers put work in, workers take it out; every item is done once, and none is lost with a worker.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/Queue.java 127.0.0.1:2181

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.ErrorMode;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;

public class Queue {
    static final String TOP = "/examples/java/queue";
    static final int ITEMS = 60;

    static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return item.getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public String deserialize(byte[] data) {
            return new String(data, StandardCharsets.UTF_8);
        }
    };

    /** What workers finished, in the order in which they did. */
    static final List<String> DONE = Collections.synchronizedList(new ArrayList<>());
    static final AtomicBoolean FAILED_ONCE = new AtomicBoolean();

    record Worker(String name) implements QueueConsumer<String> {
        @Override
        public void consumeMessage(String item) throws Exception {
            if (item.equals("job-007") && FAILED_ONCE.compareAndSet(false, true)) {
                System.out.println(name + " fails at " + item + ": it goes back into the queue");
                throw new Exception("no luck");
            }
            DONE.add(item);
        }

        @Override
        public void stateChanged(CuratorFramework client, ConnectionState state) {
            // The queue looks after its connection itself.
        }
    }

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        try (CuratorFramework producer = connect(servers); CuratorFramework one = connect(servers);
                CuratorFramework other = connect(servers)) {
            producer.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);

            // One worker: in the order in which the items were put.
            List<String> ordered = new ArrayList<>();
            try (DistributedQueue<String> in = queue(producer, null, "/ordered", false);
                    DistributedQueue<String> out = queue(one, new Worker("the only worker"), "/ordered", false)) {
                for (int i = 100; i < 100 + ITEMS; i++) {
                    ordered.add("job-" + i);
                    in.put("job-" + i);
                }
                await(ITEMS);
                check(ordered.equals(DONE), "out of order: " + DONE);
                System.out.println("one worker did " + ITEMS + " jobs in order");
            }

            // Two workers: each job once. A job is locked while it is worked on and leaves the queue when it is done.
            DONE.clear();
            TreeSet<String> all = new TreeSet<>();
            try (DistributedQueue<String> in = queue(producer, null, "/shared", true);
                    DistributedQueue<String> first = queue(one, new Worker("the first worker"), "/shared", true);
                    DistributedQueue<String> second = queue(other, new Worker("the second worker"), "/shared", true)) {
                for (int i = 0; i < ITEMS; i++) {
                    all.add(String.format("job-%03d", i));
                    in.put(String.format("job-%03d", i));
                }
                await(ITEMS);
                check(FAILED_ONCE.get(), "nobody failed");
                check(DONE.size() == ITEMS && all.equals(new TreeSet<>(DONE)), "lost or done twice: " + DONE);
                System.out.println("two workers did " + ITEMS + " jobs, each once");
            }
        }
        System.out.println("queue: done");
    }

    static DistributedQueue<String> queue(CuratorFramework client, QueueConsumer<String> worker, String name,
            boolean isShared) throws Exception {
        QueueBuilder<String> builder = QueueBuilder.builder(client, worker, TEXT, TOP + name);
        DistributedQueue<String> queue =
                isShared ? builder.lockPath(TOP + name + "-locks").buildQueue() : builder.buildQueue();
        if (isShared) {
            queue.setErrorMode(ErrorMode.REQUEUE);
        }
        queue.start();
        return queue;
    }

    static void await(int count) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (DONE.size() < count) {
            check(System.nanoTime() < deadline, "only " + DONE.size() + " of " + count + " were done");
            Thread.sleep(10);
        }
    }

    static CuratorFramework connect(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(servers, new ExponentialBackoffRetry(100, 8));
        client.start();
        check(client.blockUntilConnected(30, TimeUnit.SECONDS), "no connection to " + servers);
        return client;
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
