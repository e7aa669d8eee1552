// Exclusive and shared locks: several clients take turns, and nobody is in the way of a client that died.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/Locks.java 127.0.0.1:2181

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.retry.ExponentialBackoffRetry;

public class Locks {
    static final String TOP = "/examples/java/locks";
    static final int CLIENTS = 4;
    static final int ROUNDS = 10;

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        try (CuratorFramework client = connect(servers)) {
            client.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);
            exclusive(servers, client);
            shared(servers, client);
        }
        System.out.println("locks: done");
    }

    /** Every client adds to one number, in two requests that must not be mixed with those of others. */
    static void exclusive(String servers, CuratorFramework client) throws Exception {
        String number = TOP + "/number";
        client.create().creatingParentsIfNeeded().forPath(number, bytes(0));
        together(CLIENTS, index -> {
            try (CuratorFramework mine = connect(servers)) {
                InterProcessMutex mutex = new InterProcessMutex(mine, TOP + "/exclusive");
                for (int i = 0; i < ROUNDS; i++) {
                    mutex.acquire();
                    try {
                        int value = number(mine.getData().forPath(number));
                        mine.setData().forPath(number, bytes(value + 1));
                    } finally {
                        mutex.release();
                    }
                }
            }
        });
        int found = number(client.getData().forPath(number));
        System.out.println("exclusive: " + CLIENTS + " clients counted to " + found);
        check(found == CLIENTS * ROUNDS, "an addition was lost");

        // A client that dies without releasing loses its session, and with it the lock. Here it closes.
        CuratorFramework dying = connect(servers);
        new InterProcessMutex(dying, TOP + "/exclusive").acquire();
        InterProcessMutex mutex = new InterProcessMutex(client, TOP + "/exclusive");
        check(!mutex.acquire(300, TimeUnit.MILLISECONDS), "two clients hold one lock");
        dying.close();
        check(mutex.acquire(30, TimeUnit.SECONDS), "a dead client holds the lock");
        mutex.release();
    }

    /** Readers hold the shared lock together; a writer waits for them, and they for the writer. */
    static void shared(String servers, CuratorFramework client) throws Exception {
        InterProcessReadWriteLock writer = new InterProcessReadWriteLock(client, TOP + "/shared");
        CountDownLatch reading = new CountDownLatch(CLIENTS);
        CountDownLatch enough = new CountDownLatch(1);
        Thread readers = new Thread(() -> {
            try {
                together(CLIENTS, index -> {
                    try (CuratorFramework mine = connect(servers)) {
                        InterProcessReadWriteLock lock = new InterProcessReadWriteLock(mine, TOP + "/shared");
                        lock.readLock().acquire();
                        reading.countDown();
                        enough.await();
                        lock.readLock().release();
                    }
                });
            } catch (Exception failed) {
                failed.printStackTrace();
            }
        });
        readers.start();
        check(reading.await(30, TimeUnit.SECONDS), "readers exclude one another");
        check(!writer.writeLock().acquire(300, TimeUnit.MILLISECONDS), "a writer is in while readers are");
        enough.countDown();
        check(writer.writeLock().acquire(30, TimeUnit.SECONDS), "the writer never gets in");
        writer.writeLock().release();
        readers.join();
        System.out.println("shared: " + CLIENTS + " readers at once, then the writer alone");
    }

    interface Work {
        void run(int index) throws Exception;
    }

    /** Runs the work in several threads at once, as so many processes would. */
    static void together(int count, Work work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(count);
        List<Future<?>> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            int index = i;
            all.add(threads.submit(() -> {
                work.run(index);
                return null;
            }));
        }
        threads.shutdown();
        for (Future<?> one : all) {
            one.get(60, TimeUnit.SECONDS);
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

    static int number(byte[] data) {
        return Integer.parseInt(new String(data, StandardCharsets.UTF_8));
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
