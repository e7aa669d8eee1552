package zorilla;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooKeeper;

/** A Java client with its connection states and events in queues, so that a scenario can wait for them. */
final class Client implements AutoCloseable {
    static final int SECONDS_MAX = 30;

    final ZooKeeper zk;
    final LinkedBlockingQueue<Watcher.Event.KeeperState> states = new LinkedBlockingQueue<>();
    final LinkedBlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();

    Client(Server server) throws Exception {
        this(server.hosts(), 8000);
    }

    /** Connects through a link that can be cut. */
    Client(Link link, int timeoutMs) throws Exception {
        this(link.hosts(), timeoutMs);
    }

    /** {@code hosts} may end with a chroot. */
    Client(String hosts, int timeoutMs) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        zk = new ZooKeeper(hosts, timeoutMs, event -> take(event, connected));
        await(connected);
    }

    /** Resumes a session. Returns at once: whether it works is what a scenario wants to see. */
    Client(Server server, long session, byte[] password) throws Exception {
        zk = new ZooKeeper(server.hosts(), 8000, event -> take(event, null), session, password);
    }

    private void take(WatchedEvent event, CountDownLatch connected) {
        if (event.getType() == Watcher.Event.EventType.None) {
            states.add(event.getState());
            if (connected != null && event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        } else {
            events.add(event);
        }
    }

    /** Keeps only the events of znodes: a watcher is also told of connection states. */
    Watcher watcher() {
        return event -> {
            if (event.getType() != Watcher.Event.EventType.None) {
                events.add(event);
            }
        };
    }

    /** The next event as {@code TYPE path}. */
    String event() throws Exception {
        WatchedEvent event = events.poll(SECONDS_MAX, TimeUnit.SECONDS);
        if (event == null) {
            throw new AssertionError("no event within " + SECONDS_MAX + " s");
        }
        return event.getType() + " " + event.getPath();
    }

    /** The next {@code count} events, each as {@code TYPE path}. */
    List<String> events(int count) throws Exception {
        List<String> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            all.add(event());
        }
        return all;
    }

    /**
     * Whatever was told to this client before the answer to this is in the queue: events and answers share one
     * connection, and one thread of the client hands both out.
     */
    void settle() throws Exception {
        CountDownLatch answered = new CountDownLatch(1);
        zk.exists("/", false, (rc, path, ctx, stat) -> answered.countDown(), null);
        await(answered);
    }

    /** Fails if there is an event that the scenario has not taken. */
    void assertNoEvent() throws Exception {
        settle();
        if (!events.isEmpty()) {
            throw new AssertionError("not expected: " + events);
        }
    }

    /** Waits until the client reports this state; earlier ones are dropped. */
    void awaitState(Watcher.Event.KeeperState wanted) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS_MAX);
        while (true) {
            Watcher.Event.KeeperState state = states.poll(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (state == null) {
                throw new AssertionError("not " + wanted + " within " + SECONDS_MAX + " s, but " + zk.getState());
            }
            if (state == wanted) {
                return;
            }
        }
    }

    static void await(CountDownLatch latch) throws Exception {
        if (!latch.await(SECONDS_MAX, TimeUnit.SECONDS)) {
            throw new AssertionError("not within " + SECONDS_MAX + " s, " + latch.getCount() + " missing");
        }
    }

    @Override
    public void close() throws Exception {
        zk.close();
    }
}
