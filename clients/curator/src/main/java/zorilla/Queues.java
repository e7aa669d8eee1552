package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedIdQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.ErrorMode;
import org.apache.curator.framework.recipes.queue.MultiItem;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.state.ConnectionState;

/** Queues: everything once, and in order where order is promised. */
final class Queues {
    private static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return text(data);
        }
    };

    private Queues() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a queue delivers everything once and in order", Queues::ordered);
        suite.add("several consumers share a queue, each item once", Queues::shared);
        suite.add("what a consumer failed at is delivered again", Queues::requeued);
        suite.add("several items put as one", Queues::multi);
        suite.add("a priority queue delivers by priority", Queues::priority);
        suite.add("a delay queue delivers not before the time", Queues::delay);
        suite.add("items of an id queue are taken back", Queues::id);
        suite.add("a queue goes on after kill -9 of the server", Queues::restart);
        suite.add("a simple queue: offer, peek, poll", Queues::simple);
        suite.add("a simple queue with several takers, each item once", Queues::simpleShared);
    }

    /** Keeps what it was given. */
    private static class Kept implements QueueConsumer<String> {
        final List<String> items = Collections.synchronizedList(new ArrayList<>());

        @Override
        public void consumeMessage(String item) throws Exception {
            items.add(item);
        }

        @Override
        public void stateChanged(CuratorFramework client, ConnectionState state) {
            // A queue looks after its connection itself.
        }
    }

    private static List<String> numbers(String prefix, int count) {
        List<String> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            all.add(String.format("%s%04d", prefix, i));
        }
        return all;
    }

    private static void ordered(Server server, String top) throws Exception {
        Kept kept = new Kept();
        List<String> all = numbers("", 200);
        try (CuratorFramework producer = Curators.open(server); CuratorFramework consumer = Curators.open(server);
                DistributedQueue<String> in = QueueBuilder.builder(producer, null, TEXT, top).buildQueue();
                DistributedQueue<String> out = QueueBuilder.builder(consumer, kept, TEXT, top).buildQueue()) {
            in.start();
            for (String item : all.subList(0, 100)) {
                in.put(item);
            }
            out.start();
            for (String item : all.subList(100, 200)) {
                in.put(item);
            }
            soon("everything was delivered", () -> kept.items.size() >= all.size());
            same(all, kept.items);
            soon("nothing is left", () -> producer.getChildren().forPath(top).isEmpty());
        }
    }

    private static void shared(Server server, String top) throws Exception {
        int producers = 2;
        int consumers = 3;
        int items = 60;
        Kept kept = new Kept();
        List<AutoCloseable> open = new ArrayList<>();
        try (CuratorFramework witness = Curators.open(server)) {
            for (int i = 0; i < consumers; i++) {
                CuratorFramework client = Curators.open(server);
                // Each consumer locks an item while it works on it, and removes it when it is done.
                DistributedQueue<String> queue = QueueBuilder.builder(client, kept, TEXT, top + "/items")
                        .lockPath(top + "/locks").buildQueue();
                queue.start();
                open.add(queue);
                open.add(client);
            }
            Curators.crew(producers, index -> {
                try (CuratorFramework client = Curators.open(server);
                        DistributedQueue<String> queue =
                                QueueBuilder.builder(client, null, TEXT, top + "/items").buildQueue()) {
                    queue.start();
                    for (String item : numbers(index + "-", items)) {
                        queue.put(item);
                    }
                    yes(queue.flushPuts(Client.SECONDS_MAX, TimeUnit.SECONDS), "everything was put");
                }
            });
            soon("everything was delivered", () -> kept.items.size() >= producers * items);
            soon("nothing is left", () -> witness.getChildren().forPath(top + "/items").isEmpty());
            TreeSet<String> all = new TreeSet<>();
            for (int i = 0; i < producers; i++) {
                all.addAll(numbers(i + "-", items));
            }
            same(all, new TreeSet<>(kept.items));
            same(producers * items, kept.items.size());
        } finally {
            for (AutoCloseable one : open) {
                one.close();
            }
        }
    }

    private static void requeued(Server server, String top) throws Exception {
        AtomicBoolean failed = new AtomicBoolean();
        Kept kept = new Kept() {
            @Override
            public void consumeMessage(String item) throws Exception {
                if (item.equals("0003") && failed.compareAndSet(false, true)) {
                    throw new Exception("not this time");
                }
                super.consumeMessage(item);
            }
        };
        try (CuratorFramework client = Curators.open(server);
                DistributedQueue<String> queue = QueueBuilder.builder(client, kept, TEXT, top + "/items")
                        .lockPath(top + "/locks").buildQueue()) {
            queue.setErrorMode(ErrorMode.REQUEUE);
            queue.start();
            List<String> all = numbers("", 10);
            for (String item : all) {
                queue.put(item);
            }
            soon("everything was delivered", () -> kept.items.size() >= all.size());
            yes(failed.get(), "one failed");
            same(new TreeSet<>(all), new TreeSet<>(kept.items));
            same(all.size(), kept.items.size());
        }
    }

    private static void multi(Server server, String top) throws Exception {
        Kept kept = new Kept();
        try (CuratorFramework client = Curators.open(server);
                DistributedQueue<String> queue = QueueBuilder.builder(client, kept, TEXT, top).buildQueue()) {
            queue.start();
            List<String> all = numbers("", 50);
            Iterator<String> items = all.iterator();
            queue.putMulti(new MultiItem<>() {
                @Override
                public String nextItem() {
                    return items.hasNext() ? items.next() : null;
                }
            });
            soon("everything was delivered", () -> kept.items.size() >= all.size());
            same(all, kept.items);
        }
    }

    private static void priority(Server server, String top) throws Exception {
        Kept kept = new Kept();
        try (CuratorFramework producer = Curators.open(server); CuratorFramework consumer = Curators.open(server);
                DistributedPriorityQueue<String> in =
                        QueueBuilder.builder(producer, null, TEXT, top).buildPriorityQueue(0);
                DistributedPriorityQueue<String> out =
                        QueueBuilder.builder(consumer, kept, TEXT, top).buildPriorityQueue(0)) {
            in.start();
            for (int i = 0; i < 30; i++) {
                in.put(String.format("%d-%02d", i % 3, i), i % 3);
            }
            in.flushPuts(Client.SECONDS_MAX, TimeUnit.SECONDS);
            out.start();
            soon("everything was delivered", () -> kept.items.size() >= 30);
            List<String> sorted = new ArrayList<>(kept.items);
            Collections.sort(sorted);
            same(sorted, kept.items);
        }
    }

    private static void delay(Server server, String top) throws Exception {
        List<Long> early = Collections.synchronizedList(new ArrayList<>());
        Kept kept = new Kept() {
            @Override
            public void consumeMessage(String item) throws Exception {
                early.add(System.currentTimeMillis() - Long.parseLong(item));
                super.consumeMessage(item);
            }
        };
        try (CuratorFramework client = Curators.open(server);
                DistributedDelayQueue<String> queue =
                        QueueBuilder.builder(client, kept, TEXT, top).buildDelayQueue()) {
            queue.start();
            long now = System.currentTimeMillis();
            List<String> sorted = new ArrayList<>();
            for (int ms : new int[] {900, 300, 600, 0}) {
                queue.put("" + (now + ms), now + ms);
                sorted.add("" + (now + ms));
            }
            Collections.sort(sorted);
            soon("everything was delivered", () -> kept.items.size() >= 4);
            same(sorted, kept.items);
            for (long ms : early) {
                yes(0 <= ms, -ms + " ms early");
            }
        }
    }

    private static void id(Server server, String top) throws Exception {
        Kept kept = new Kept();
        try (CuratorFramework producer = Curators.open(server); CuratorFramework consumer = Curators.open(server);
                DistributedIdQueue<String> in = QueueBuilder.builder(producer, null, TEXT, top).buildIdQueue();
                DistributedIdQueue<String> out = QueueBuilder.builder(consumer, kept, TEXT, top).buildIdQueue()) {
            in.start();
            in.put("a", "1");
            in.put("b", "2");
            in.put("c", "1");
            in.put("d", "3");
            in.flushPuts(Client.SECONDS_MAX, TimeUnit.SECONDS);
            same(2, in.remove("1"));
            same(0, in.remove("1"));
            out.start();
            soon("what is left was delivered", () -> kept.items.size() >= 2);
            same(List.of("b", "d"), kept.items);
        }
    }

    private static void restart(Server server, String top) throws Exception {
        Kept kept = new Kept();
        try (CuratorFramework producer = Curators.open(server); CuratorFramework consumer = Curators.open(server);
                DistributedQueue<String> in = QueueBuilder.builder(producer, null, TEXT, top).buildQueue();
                DistributedQueue<String> out = QueueBuilder.builder(consumer, kept, TEXT, top).buildQueue()) {
            in.start();
            List<String> all = numbers("", 60);
            for (String item : all.subList(0, 30)) {
                in.put(item);
            }
            in.flushPuts(Client.SECONDS_MAX, TimeUnit.SECONDS);
            server.kill();
            server.start();
            out.start();
            for (String item : all.subList(30, 60)) {
                in.put(item);
            }
            soon("everything was delivered", () -> kept.items.size() >= all.size());
            // The producer puts in the background: what it tries again after the restart may pass what comes later.
            same(all.subList(0, 30), kept.items.subList(0, 30));
            same(new TreeSet<>(all), new TreeSet<>(kept.items));
            same(all.size(), kept.items.size());
        }
    }

    private static void simple(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            client.create().forPath(top);
            SimpleDistributedQueue queue = new SimpleDistributedQueue(client, top);
            same(null, queue.peek());
            same(null, queue.poll());
            same(null, queue.poll(100, TimeUnit.MILLISECONDS));
            for (String item : numbers("", 5)) {
                yes(queue.offer(bytes(item)), "there is room");
            }
            same("0000", text(queue.peek()));
            same("0000", text(queue.element()));
            same("0000", text(queue.remove()));
            for (String item : numbers("", 5).subList(1, 5)) {
                same(item, text(queue.poll()));
            }
            same(null, queue.poll());
        }
    }

    private static void simpleShared(Server server, String top) throws Exception {
        int takers = 3;
        int items = 90;
        List<String> taken = Collections.synchronizedList(new ArrayList<>());
        try (CuratorFramework client = Curators.open(server)) {
            client.create().forPath(top);
            SimpleDistributedQueue queue = new SimpleDistributedQueue(client, top);
            Curators.crew(takers + 1, index -> {
                if (index == takers) {
                    for (String item : numbers("", items)) {
                        queue.offer(bytes(item));
                    }
                    return;
                }
                try (CuratorFramework mine = Curators.open(server)) {
                    SimpleDistributedQueue theirs = new SimpleDistributedQueue(mine, top);
                    for (int i = 0; i < items / takers; i++) {
                        taken.add(text(theirs.take()));
                    }
                }
            });
            same(numbers("", items), new ArrayList<>(new TreeSet<>(taken)));
            same(items, taken.size());
            same(0, client.getChildren().forPath(top).size());
        }
    }
}
