package zorilla;

import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.yes;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;

/** Clients that wait for one another. */
final class Barriers {
    private Barriers() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a barrier holds everybody until it is removed", Barriers::barrier);
        suite.add("a double barrier: all enter together and leave together", Barriers::doubleBarrier);
        suite.add("a double barrier that is not full in time", Barriers::incomplete);
    }

    private static void barrier(Server server, String top) throws Exception {
        int waiters = 4;
        try (CuratorFramework client = Curators.open(server)) {
            DistributedBarrier barrier = new DistributedBarrier(client, top);
            barrier.setBarrier();
            AtomicInteger ready = new AtomicInteger();
            AtomicInteger through = new AtomicInteger();
            AtomicInteger failed = new AtomicInteger();
            Thread crew = new Thread(() -> {
                try {
                    Curators.crew(waiters, index -> {
                        try (CuratorFramework mine = Curators.open(server)) {
                            DistributedBarrier theirs = new DistributedBarrier(mine, top);
                            yes(!theirs.waitOnBarrier(100, TimeUnit.MILLISECONDS), "it is set");
                            ready.incrementAndGet();
                            theirs.waitOnBarrier();
                            through.incrementAndGet();
                        }
                    });
                } catch (Throwable error) {
                    failed.incrementAndGet();
                }
            });
            crew.start();
            soon("everybody waits", () -> ready.get() == waiters);
            Thread.sleep(200);
            same(0, through.get());
            barrier.removeBarrier();
            crew.join();
            same(0, failed.get());
            same(waiters, through.get());
            yes(barrier.waitOnBarrier(1, TimeUnit.SECONDS), "where no barrier is nobody waits");
        }
    }

    private static void doubleBarrier(Server server, String top) throws Exception {
        int count = 4;
        AtomicInteger arrived = new AtomicInteger();
        AtomicInteger leaving = new AtomicInteger();
        Curators.crew(count, index -> {
            try (CuratorFramework client = Curators.open(server)) {
                for (int round = 1; round <= 3; round++) {
                    DistributedDoubleBarrier barrier =
                            new DistributedDoubleBarrier(client, top + "/" + round, count);
                    Thread.sleep(20L * index);
                    arrived.incrementAndGet();
                    yes(barrier.enter(Client.SECONDS_MAX, TimeUnit.SECONDS), "all come");
                    yes(round * count <= arrived.get(), "nobody enters before all have come");
                    Thread.sleep(20L * (count - index));
                    leaving.incrementAndGet();
                    yes(barrier.leave(Client.SECONDS_MAX, TimeUnit.SECONDS), "all go");
                    yes(round * count <= leaving.get(), "nobody leaves before all want to");
                }
            }
        });
        same(3 * count, arrived.get());
    }

    private static void incomplete(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            yes(!new DistributedDoubleBarrier(client, top, 2).enter(300, TimeUnit.MILLISECONDS), "one of two is there");
            yes(!new DistributedDoubleBarrier(other, top, 3).enter(300, TimeUnit.MILLISECONDS), "none of three stayed");
        }
    }
}
