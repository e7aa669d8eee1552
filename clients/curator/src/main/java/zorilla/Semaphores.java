package zorilla;

import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.yes;

import java.util.Collection;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.shared.SharedCount;

/** A number of leases for more who want one. */
final class Semaphores {
    private static final int LEASES = 3;

    private Semaphores() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a semaphore lets in as many as it has leases", Semaphores::bounded);
        suite.add("several leases at once, or none in time", Semaphores::several);
        suite.add("the leases of a dead session are free again", Semaphores::holderDies);
        suite.add("the number of leases is a shared count", Semaphores::shared);
    }

    private static void bounded(Server server, String top) throws Exception {
        Curators.Room room = new Curators.Room();
        CountDownLatch full = new CountDownLatch(LEASES);
        Curators.crew(6, index -> {
            try (CuratorFramework client = Curators.open(server)) {
                InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, top, LEASES);
                for (int i = 0; i < 8; i++) {
                    Lease lease = semaphore.acquire();
                    room.enter(LEASES);
                    // The first ones meet inside, so that the semaphore is seen to be full.
                    full.countDown();
                    Client.await(full);
                    room.leave();
                    semaphore.returnLease(lease);
                }
            }
        });
        same(LEASES, room.most());
    }

    private static void several(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            InterProcessSemaphoreV2 mine = new InterProcessSemaphoreV2(client, top, LEASES);
            InterProcessSemaphoreV2 theirs = new InterProcessSemaphoreV2(other, top, LEASES);
            Collection<Lease> two = mine.acquire(2);
            same(2, two.size());
            same(null, theirs.acquire(2, 300, TimeUnit.MILLISECONDS));
            same(2, mine.getParticipantNodes().size());
            Lease last = theirs.acquire(10, TimeUnit.SECONDS);
            yes(last != null, "the third lease is free");
            same(null, mine.acquire(200, TimeUnit.MILLISECONDS));
            mine.returnAll(two);
            Collection<Lease> again = theirs.acquire(2, 10, TimeUnit.SECONDS);
            same(2, again.size());
            theirs.returnAll(again);
            theirs.returnLease(last);
            soon("nobody is left", () -> mine.getParticipantNodes().isEmpty());
        }
    }

    private static void holderDies(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
                CuratorFramework heir = Curators.open(server)) {
            same(LEASES, new InterProcessSemaphoreV2(dying, top, LEASES).acquire(LEASES).size());
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(heir, top, LEASES);
            same(null, semaphore.acquire(200, TimeUnit.MILLISECONDS));
            link.cut();
            Collection<Lease> all = semaphore.acquire(LEASES, Client.SECONDS_MAX, TimeUnit.SECONDS);
            yes(all != null && all.size() == LEASES, "the dead hold nothing");
        }
    }

    private static void shared(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server);
                SharedCount count = new SharedCount(client, top + "/count", 1)) {
            count.start();
            InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, top + "/leases", count);
            Lease first = semaphore.acquire();
            same(null, semaphore.acquire(200, TimeUnit.MILLISECONDS));
            count.setCount(2);
            Lease second = semaphore.acquire(10, TimeUnit.SECONDS);
            yes(second != null, "one more lease");
            semaphore.returnLease(second);
            semaphore.returnLease(first);
        }
    }
}
