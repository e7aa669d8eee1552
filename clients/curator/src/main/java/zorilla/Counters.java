package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.CachedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicValue;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.recipes.shared.SharedCountReader;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.shared.VersionedValue;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;

/** Numbers and values that clients share. */
final class Counters {
    private Counters() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("an atomic number loses no increment", Counters::atomicLong);
        suite.add("blocks of a cached number overlap nowhere", Counters::cached);
        suite.add("an atomic value changes only from what it was", Counters::atomicValue);
        suite.add("a shared count is seen by all, and set from its newest version only", Counters::sharedCount);
        suite.add("a shared value converges after a lost connection", Counters::sharedValue);
    }

    private static void atomicLong(Server server, String top) throws Exception {
        int clients = 4;
        int rounds = 30;
        List<Long> seen = Collections.synchronizedList(new ArrayList<>());
        Curators.crew(clients, index -> {
            try (CuratorFramework client = Curators.open(server)) {
                // Tries a few times without a lock, and takes one when there are too many others.
                DistributedAtomicLong number = new DistributedAtomicLong(client, top + "/number",
                        new RetryNTimes(3, 1),
                        PromotedToLock.builder().lockPath(top + "/lock").retryPolicy(new RetryNTimes(50, 10)).build());
                for (int i = 0; i < rounds; i++) {
                    AtomicValue<Long> value = number.increment();
                    yes(value.succeeded(), "the lock helps in the end");
                    same(value.preValue() + 1, value.postValue());
                    seen.add(value.postValue());
                }
            }
        });
        same(clients * rounds, new TreeSet<>(seen).size());
        try (CuratorFramework client = Curators.open(server)) {
            DistributedAtomicLong number = new DistributedAtomicLong(client, top + "/number", new RetryNTimes(3, 1));
            same((long) clients * rounds, number.get().postValue());
            same(100L, number.trySet(100L).postValue());
            same(90L, number.subtract(10L).postValue());
        }
    }

    private static void cached(Server server, String top) throws Exception {
        List<Long> seen = Collections.synchronizedList(new ArrayList<>());
        Curators.crew(3, index -> {
            try (CuratorFramework client = Curators.open(server)) {
                CachedAtomicLong number = new CachedAtomicLong(
                        new DistributedAtomicLong(client, top, new RetryNTimes(100, 5)), 10);
                for (int i = 0; i < 50; i++) {
                    AtomicValue<Long> value = number.next();
                    yes(value.succeeded(), "there is a number");
                    seen.add(value.postValue());
                }
            }
        });
        same(150, seen.size());
        same(150, new TreeSet<>(seen).size());
    }

    private static void atomicValue(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server)) {
            DistributedAtomicValue value = new DistributedAtomicValue(client, top, new RetryNTimes(3, 10));
            yes(value.initialize(bytes("a")), "the first one initializes");
            yes(!value.initialize(bytes("b")), "the second one does not");
            yes(!value.compareAndSet(bytes("x"), bytes("b")).succeeded(), "it is not x");
            yes(value.compareAndSet(bytes("a"), bytes("b")).succeeded(), "it is a");
            same("b", text(value.get().postValue()));
            value.forceSet(bytes("c"));
            same("c", text(value.get().postValue()));
        }
    }

    private static void sharedCount(Server server, String top) throws Exception {
        try (CuratorFramework one = Curators.open(server); CuratorFramework other = Curators.open(server);
                SharedCount mine = new SharedCount(one, top, 7); SharedCount theirs = new SharedCount(other, top, 9)) {
            List<Integer> told = Collections.synchronizedList(new ArrayList<>());
            theirs.addListener(new SharedCountListener() {
                @Override
                public void countHasChanged(SharedCountReader count, int value) {
                    told.add(value);
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {
                    // A shared count looks after its connection itself.
                }
            });
            mine.start();
            theirs.start();
            same(7, theirs.getCount());
            VersionedValue<Integer> old = theirs.getVersionedValue();
            mine.setCount(8);
            soon("the other one sees it", () -> theirs.getCount() == 8);
            yes(!theirs.trySetCount(old, 10), "set from an old version");
            soon("it knows the newest version", () -> theirs.trySetCount(theirs.getVersionedValue(), 11));
            soon("it comes back", () -> mine.getCount() == 11);
            yes(told.contains(8), "it was told");
        }
    }

    private static void sharedValue(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework away = Curators.open(link, Curators.SESSION_MS);
                CuratorFramework client = Curators.open(server);
                SharedValue theirs = new SharedValue(away, top, bytes("0"));
                SharedValue mine = new SharedValue(client, top, bytes("0"))) {
            theirs.start();
            mine.start();
            link.cut();
            for (int i = 1; i <= 5; i++) {
                mine.setValue(bytes("" + i));
            }
            link.restore();
            yes(away.blockUntilConnected(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is back");
            soon("it sees the last value", () -> text(theirs.getValue()).equals("5"));
            mine.setValue(bytes("6"));
            soon("and the next", () -> text(theirs.getValue()).equals("6"));
        }
    }
}
