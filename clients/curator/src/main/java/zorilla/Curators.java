package zorilla;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;

/** Curator clients, and crews of threads that do something at once. */
final class Curators {
    static final int SESSION_MS = 8000;
    /** The shortest session that the suite's server grants is two of its ticks: it is over soon after a cut. */
    static final int SHORT_SESSION_MS = 1500;

    private static final long CREW_SECONDS_MAX = 60;

    private Curators() {
    }

    static CuratorFramework open(Server server) throws Exception {
        return open(server.hosts(), SESSION_MS);
    }

    /** Connects through a link that can be cut. */
    static CuratorFramework open(Link link, int sessionMs) throws Exception {
        return open(link.hosts(), sessionMs);
    }

    private static CuratorFramework open(String hosts, int sessionMs) throws Exception {
        CuratorFramework client = builder(hosts, sessionMs).build();
        client.start();
        if (!client.blockUntilConnected(Client.SECONDS_MAX, TimeUnit.SECONDS)) {
            client.close();
            throw new AssertionError("not connected within " + Client.SECONDS_MAX + " s");
        }
        return client;
    }

    static CuratorFrameworkFactory.Builder builder(String hosts, int sessionMs) {
        return CuratorFrameworkFactory.builder()
                .connectString(hosts)
                .sessionTimeoutMs(sessionMs)
                .connectionTimeoutMs(Math.min(sessionMs, 5000))
                .retryPolicy(new RetryNTimes(100, 100));
    }

    static void awaitLost(CuratorFramework client) throws Exception {
        AtomicInteger losses = new AtomicInteger();
        client.getConnectionStateListenable().addListener((same, state) -> {
            if (state == ConnectionState.LOST) {
                losses.incrementAndGet();
            }
        });
        Check.soon("the client says that its session is lost", () -> losses.get() != 0);
    }

    interface Task {
        void run(int index) throws Exception;
    }

    /** Runs the task in {@code count} threads at once; fails as the first of them did. */
    static void crew(int count, Task task) throws Exception {
        List<Throwable> broken = Collections.synchronizedList(new ArrayList<>());
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            int index = i;
            Thread thread = new Thread(() -> {
                try {
                    task.run(index);
                } catch (Throwable error) {
                    broken.add(error);
                }
            });
            thread.setDaemon(true);
            thread.start();
            threads.add(thread);
        }
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(CREW_SECONDS_MAX);
        for (Thread thread : threads) {
            thread.join(Math.max(1, TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime())));
            if (thread.isAlive()) {
                AssertionError stuck = new AssertionError("stuck for " + CREW_SECONDS_MAX + " s");
                stuck.setStackTrace(thread.getStackTrace());
                broken.add(stuck);
                break;
            }
        }
        if (!broken.isEmpty()) {
            throw new AssertionError(broken.size() + " threads failed", broken.get(0));
        }
    }

    /** Counts who is inside; remembers the most there ever were. */
    static final class Room {
        private int inside;
        private int most;

        synchronized void enter(int max) {
            inside++;
            most = Math.max(most, inside);
            Check.yes(inside <= max, inside + " inside, at most " + max + " may be");
        }

        synchronized void leave() {
            inside--;
        }

        synchronized int most() {
            return most;
        }
    }
}
