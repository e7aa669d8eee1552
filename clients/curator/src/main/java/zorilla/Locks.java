package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.Revoker;

/** Locks that several clients contend for. */
final class Locks {
    private Locks() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a mutex lets in one of many", (server, top) -> exclusive(server, top, InterProcessMutex::new));
        suite.add("a semaphore mutex lets in one of many",
                (server, top) -> exclusive(server, top, InterProcessSemaphoreMutex::new));
        suite.add("a mutex is reentrant, a semaphore mutex is not", Locks::reentrant);
        suite.add("who waits too long for a mutex leaves nothing behind", Locks::timeout);
        suite.add("a mutex is handed over in the order of asking", Locks::fair);
        suite.add("a mutex goes on when its holder's session dies", Locks::holderDies);
        suite.add("a mutex goes on when its holder closes", Locks::holderCloses);
        suite.add("a waiter that dies does not stop those behind it", Locks::waiterDies);
        suite.add("a mutex is kept through kill -9 of the server", Locks::restart);
        suite.add("a holder is asked to give up its mutex", Locks::revoke);
        suite.add("readers share, writers do not", Locks::readWrite);
        suite.add("a writer may read on, a reader may not write", Locks::upgrade);
        suite.add("a writer is not starved by later readers", Locks::writerIsNext);
        suite.add("a multi-lock has all of its locks or none", Locks::multi);
    }

    private interface Maker {
        InterProcessLock make(CuratorFramework client, String path);
    }

    private static void exclusive(Server server, String top, Maker maker) throws Exception {
        int clients = 4;
        int threads = 2;
        int rounds = 12;
        String counter = top + "/counter";
        Curators.Room room = new Curators.Room();
        try (CuratorFramework witness = Curators.open(server)) {
            witness.create().creatingParentsIfNeeded().forPath(counter, bytes("0"));
            Curators.crew(clients, index -> {
                try (CuratorFramework client = Curators.open(server)) {
                    Curators.crew(threads, thread -> {
                        InterProcessLock lock = maker.make(client, top + "/lock");
                        for (int i = 0; i < rounds; i++) {
                            yes(lock.acquire(45, TimeUnit.SECONDS), "the lock is free in the end");
                            room.enter(1);
                            // Nothing but the lock keeps these two requests together.
                            int value = Integer.parseInt(text(client.getData().forPath(counter)));
                            client.setData().forPath(counter, bytes("" + (value + 1)));
                            room.leave();
                            lock.release();
                        }
                    });
                }
            });
            same("" + clients * threads * rounds, text(witness.getData().forPath(counter)));
        }
    }

    private static void reentrant(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            InterProcessMutex mutex = new InterProcessMutex(client, top + "/m");
            InterProcessMutex theirs = new InterProcessMutex(other, top + "/m");
            mutex.acquire();
            mutex.acquire();
            same(1, client.getChildren().forPath(top + "/m").size());
            mutex.release();
            yes(!theirs.acquire(300, TimeUnit.MILLISECONDS), "released once of twice");
            mutex.release();
            yes(theirs.acquire(10, TimeUnit.SECONDS), "released as often as acquired");
            theirs.release();
            try {
                mutex.release();
                throw new AssertionError("released without having it");
            } catch (IllegalMonitorStateException expected) {
                yes(!mutex.isAcquiredInThisProcess(), "nobody has it here");
            }
            InterProcessSemaphoreMutex strict = new InterProcessSemaphoreMutex(client, top + "/s");
            strict.acquire();
            yes(!strict.acquire(300, TimeUnit.MILLISECONDS), "not a second time");
            strict.release();
        }
    }

    private static void timeout(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            InterProcessMutex mine = new InterProcessMutex(client, top);
            InterProcessMutex theirs = new InterProcessMutex(other, top);
            mine.acquire();
            for (int i = 0; i < 3; i++) {
                yes(!theirs.acquire(200, TimeUnit.MILLISECONDS), "it is held");
                same(1, client.getChildren().forPath(top).size());
            }
            mine.release();
            yes(theirs.acquire(10, TimeUnit.SECONDS), "it is free");
            theirs.release();
            same(0, client.getChildren().forPath(top).size());
        }
    }

    private static void fair(Server server, String top) throws Exception {
        int waiters = 5;
        try (CuratorFramework holder = Curators.open(server)) {
            InterProcessMutex held = new InterProcessMutex(holder, top);
            held.acquire();
            List<Integer> order = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(1);
            Thread crew = new Thread(() -> {
                try {
                    Curators.crew(waiters, index -> {
                        soon("those before asked", () -> holder.getChildren().forPath(top).size() == index + 1);
                        try (CuratorFramework client = Curators.open(server)) {
                            InterProcessMutex mutex = new InterProcessMutex(client, top);
                            mutex.acquire();
                            order.add(index);
                            mutex.release();
                        }
                    });
                    done.countDown();
                } catch (Throwable failed) {
                    order.add(-1);
                }
            });
            crew.start();
            soon("everybody asked",
                    () -> order.contains(-1) || holder.getChildren().forPath(top).size() == waiters + 1);
            held.release();
            Client.await(done);
            same(List.of(0, 1, 2, 3, 4), order);
        }
    }

    private static void holderDies(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
                CuratorFramework heir = Curators.open(server)) {
            InterProcessMutex lost = new InterProcessMutex(dying, top);
            lost.acquire();
            InterProcessMutex mutex = new InterProcessMutex(heir, top);
            yes(!mutex.acquire(200, TimeUnit.MILLISECONDS), "it is held");
            long started = System.nanoTime();
            link.cut();
            yes(mutex.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS), "the dead hold nothing");
            double seconds = (System.nanoTime() - started) / 1e9;
            yes(0.5 < seconds, "inherited after " + seconds + " s, before the session can have been over");
            same(1, heir.getChildren().forPath(top).size());
            mutex.release();
        }
    }

    private static void holderCloses(Server server, String top) throws Exception {
        try (CuratorFramework heir = Curators.open(server)) {
            CuratorFramework closing = Curators.open(server);
            new InterProcessMutex(closing, top).acquire();
            InterProcessMutex mutex = new InterProcessMutex(heir, top);
            AtomicInteger got = new AtomicInteger();
            Thread waiter = new Thread(() -> {
                try {
                    mutex.acquire();
                    got.incrementAndGet();
                    mutex.release();
                } catch (Exception failed) {
                    got.decrementAndGet();
                }
            });
            waiter.start();
            soon("the heir waits", () -> heir.getChildren().forPath(top).size() == 2);
            same(0, got.get());
            closing.close();
            waiter.join();
            same(1, got.get());
        }
    }

    private static void waiterDies(Server server, String top) throws Exception {
        try (CuratorFramework holder = Curators.open(server); Link link = new Link(server);
                CuratorFramework last = Curators.open(server)) {
            InterProcessMutex held = new InterProcessMutex(holder, top);
            held.acquire();
            CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
            Thread second = new Thread(() -> {
                try {
                    new InterProcessMutex(dying, top).acquire();
                } catch (Exception expected) {
                    // Its session ends while it waits.
                }
            });
            second.setDaemon(true);
            second.start();
            soon("the second waits", () -> holder.getChildren().forPath(top).size() == 2);
            AtomicInteger got = new AtomicInteger();
            Thread third = new Thread(() -> {
                try {
                    new InterProcessMutex(last, top).acquire();
                    got.incrementAndGet();
                } catch (Exception failed) {
                    got.decrementAndGet();
                }
            });
            third.start();
            soon("the third waits", () -> holder.getChildren().forPath(top).size() == 3);
            link.cut();
            soon("the second is dead", () -> holder.getChildren().forPath(top).size() == 2);
            // The third learned of this, looked again, and still is behind the holder.
            Thread.sleep(200);
            same(0, got.get());
            held.release();
            third.join();
            same(1, got.get());
            dying.close();
        }
    }

    private static void restart(Server server, String top) throws Exception {
        try (CuratorFramework holder = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            InterProcessMutex held = new InterProcessMutex(holder, top);
            held.acquire();
            server.kill();
            server.start();
            yes(other.blockUntilConnected(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is back");
            InterProcessMutex theirs = new InterProcessMutex(other, top);
            yes(!theirs.acquire(1000, TimeUnit.MILLISECONDS), "it is still held");
            held.release();
            yes(theirs.acquire(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is released");
            theirs.release();
        }
    }

    private static void revoke(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            InterProcessMutex mutex = new InterProcessMutex(client, top);
            CountDownLatch asked = new CountDownLatch(1);
            mutex.makeRevocable(which -> asked.countDown());
            mutex.acquire();
            InterProcessMutex theirs = new InterProcessMutex(other, top);
            List<String> participants = new ArrayList<>(theirs.getParticipantNodes());
            same(1, participants.size());
            Revoker.attemptRevoke(other, participants.get(0));
            Client.await(asked);
            mutex.release();
            yes(theirs.acquire(10, TimeUnit.SECONDS), "it was given up");
            theirs.release();
        }
    }

    private static void readWrite(Server server, String top) throws Exception {
        Curators.Room readers = new Curators.Room();
        Curators.Room writers = new Curators.Room();
        AtomicInteger reading = new AtomicInteger();
        AtomicInteger writing = new AtomicInteger();
        CountDownLatch together = new CountDownLatch(3);
        Curators.crew(5, index -> {
            try (CuratorFramework client = Curators.open(server)) {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, top);
                if (index < 3) {
                    // The first time, the three readers meet inside: sharing is shown, not hoped for.
                    lock.readLock().acquire();
                    together.countDown();
                    Client.await(together);
                    lock.readLock().release();
                } else {
                    Client.await(together);
                }
                for (int i = 0; i < 12; i++) {
                    if (index < 3) {
                        lock.readLock().acquire();
                        reading.incrementAndGet();
                        readers.enter(3);
                        same(0, writing.get());
                        Thread.sleep(2);
                        same(0, writing.get());
                        readers.leave();
                        reading.decrementAndGet();
                        lock.readLock().release();
                    } else {
                        lock.writeLock().acquire();
                        writing.incrementAndGet();
                        writers.enter(1);
                        same(0, reading.get());
                        Thread.sleep(2);
                        same(0, reading.get());
                        writers.leave();
                        writing.decrementAndGet();
                        lock.writeLock().release();
                    }
                }
            }
        });
        same(1, writers.most());
    }

    private static void upgrade(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, top);
            InterProcessReadWriteLock theirs = new InterProcessReadWriteLock(other, top);
            lock.writeLock().acquire();
            lock.readLock().acquire();
            lock.writeLock().release();
            yes(theirs.readLock().acquire(10, TimeUnit.SECONDS), "downgraded: others read");
            yes(!theirs.writeLock().acquire(200, TimeUnit.MILLISECONDS), "nobody writes while one reads");
            theirs.readLock().release();
            yes(!lock.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a reader does not become a writer");
            lock.readLock().release();
            yes(theirs.writeLock().acquire(10, TimeUnit.SECONDS), "nobody reads any more");
            theirs.writeLock().release();
        }
    }

    private static void writerIsNext(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework writer = Curators.open(server);
                CuratorFramework late = Curators.open(server)) {
            InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, top);
            lock.readLock().acquire();
            CountDownLatch wrote = new CountDownLatch(1);
            Thread waiting = new Thread(() -> {
                try {
                    InterProcessReadWriteLock theirs = new InterProcessReadWriteLock(writer, top);
                    theirs.writeLock().acquire();
                    theirs.writeLock().release();
                    wrote.countDown();
                } catch (Exception failed) {
                    // The latch stays as it is.
                }
            });
            waiting.start();
            soon("the writer waits", () -> client.getChildren().forPath(top).size() == 2);
            InterProcessReadWriteLock behind = new InterProcessReadWriteLock(late, top);
            yes(!behind.readLock().acquire(300, TimeUnit.MILLISECONDS), "whoever comes later waits behind the writer");
            lock.readLock().release();
            Client.await(wrote);
            yes(behind.readLock().acquire(10, TimeUnit.SECONDS), "the writer is through");
        }
    }

    private static void multi(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            List<String> paths = List.of(top + "/a", top + "/b", top + "/c");
            InterProcessMutex one = new InterProcessMutex(other, top + "/c");
            one.acquire();
            InterProcessMultiLock all = new InterProcessMultiLock(client, paths);
            yes(!all.acquire(500, TimeUnit.MILLISECONDS), "the third is held");
            InterProcessMutex first = new InterProcessMutex(other, top + "/a");
            yes(first.acquire(10, TimeUnit.SECONDS), "those it had were given back");
            first.release();
            one.release();
            yes(all.acquire(10, TimeUnit.SECONDS), "all are free");
            for (String path : paths) {
                yes(!new InterProcessMutex(other, path).acquire(100, TimeUnit.MILLISECONDS), path + " is held");
            }
            all.release();
        }
    }
}
