package zorilla;

import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.leader.Participant;
import org.apache.zookeeper.KeeperException;

/** Leader election, both ways that Curator has. */
final class Leaders {
    private Leaders() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a latch has one leader, and the next when it closes", Leaders::latch);
        suite.add("a latch passes on when the leader's session dies", Leaders::latchDies);
        suite.add("a latch keeps one leader through kill -9 of the server", Leaders::latchRestart);
        suite.add("a selector lets everybody lead, one at a time", Leaders::selector);
        suite.add("a selector passes on when the leader's session dies", Leaders::selectorDies);
        suite.add("leadership is interrupted", Leaders::interrupt);
    }

    /** One participant: a client and its latch, and what its listener was told. */
    private static final class Candidate implements AutoCloseable {
        final CuratorFramework client;
        final LeaderLatch latch;
        final List<String> told = Collections.synchronizedList(new ArrayList<>());

        Candidate(CuratorFramework client, String path, String id) throws Exception {
            this.client = client;
            latch = new LeaderLatch(client, path, id, LeaderLatch.CloseMode.NOTIFY_LEADER);
            latch.addListener(new LeaderLatchListener() {
                @Override
                public void isLeader() {
                    told.add("leads");
                }

                @Override
                public void notLeader() {
                    told.add("follows");
                }
            });
            latch.start();
        }

        /** A latch starts in the background: at first the folder of its participants may be missing. */
        int participants() throws Exception {
            try {
                return latch.getParticipants().size();
            } catch (KeeperException.NoNodeException notYet) {
                return 0;
            }
        }

        @Override
        public void close() throws Exception {
            if (latch.getState() == LeaderLatch.State.STARTED) {
                latch.close();
            }
            client.close();
        }
    }

    private static void latch(Server server, String top) throws Exception {
        int count = 4;
        List<Candidate> all = new ArrayList<>();
        try {
            for (int i = 0; i < count; i++) {
                all.add(new Candidate(Curators.open(server), top, "c" + i));
                int joined = i + 1;
                soon("it joined", () -> all.get(0).participants() == joined);
            }
            // Whoever joined first leads first, and so on.
            for (int i = 0; i < count; i++) {
                Candidate leader = all.get(i);
                soon("c" + i + " leads", leader.latch::hasLeadership);
                for (int other = i; other < count; other++) {
                    same(i == other, all.get(other).latch.hasLeadership());
                    same("c" + i, all.get(other).latch.getLeader().getId());
                }
                TreeSet<String> ids = new TreeSet<>();
                for (Participant participant : leader.latch.getParticipants()) {
                    ids.add(participant.getId());
                }
                same(count - i, ids.size());
                leader.latch.close();
                same(List.of("leads", "follows"), leader.told);
            }
        } finally {
            for (Candidate candidate : all) {
                candidate.close();
            }
        }
    }

    private static void latchDies(Server server, String top) throws Exception {
        try (Link link = new Link(server);
                Candidate first = new Candidate(Curators.open(link, Curators.SHORT_SESSION_MS), top, "first")) {
            soon("first leads", first.latch::hasLeadership);
            try (Candidate second = new Candidate(Curators.open(server), top, "second")) {
                soon("both are there", () -> second.participants() == 2);
                yes(!second.latch.hasLeadership(), "one leader");
                link.cut();
                // The cut off leader knows before the server gives its place to another.
                soon("first knows", () -> !first.latch.hasLeadership());
                soon("second leads", second.latch::hasLeadership);
                link.restore();
                soon("first joins again", () -> second.participants() == 2);
                yes(second.latch.hasLeadership() && !first.latch.hasLeadership(), "and waits behind second");
                same(List.of("leads", "follows"), first.told);
                second.latch.close();
                soon("first leads again", first.latch::hasLeadership);
            }
        }
    }

    private static void latchRestart(Server server, String top) throws Exception {
        try (Candidate first = new Candidate(Curators.open(server), top, "first")) {
            soon("first leads", first.latch::hasLeadership);
            try (Candidate second = new Candidate(Curators.open(server), top, "second")) {
                soon("both are there", () -> first.participants() == 2);
                server.kill();
                server.start();
                // Each learns of the loss by itself, and until the leader has looked again nobody may lead.
                soon("exactly one leads, and goes on", () -> {
                    boolean one = first.latch.hasLeadership() != second.latch.hasLeadership();
                    Thread.sleep(500);
                    return one && first.latch.hasLeadership() != second.latch.hasLeadership();
                });
                Candidate leader = first.latch.hasLeadership() ? first : second;
                Candidate other = leader == first ? second : first;
                leader.latch.close();
                soon("the other leads", other.latch::hasLeadership);
            }
        }
    }

    private static void selector(Server server, String top) throws Exception {
        int count = 4;
        int turns = 3;
        Curators.Room room = new Curators.Room();
        CountDownLatch done = new CountDownLatch(count * turns);
        List<Throwable> broken = Collections.synchronizedList(new ArrayList<>());
        List<AutoCloseable> all = new ArrayList<>();
        try {
            for (int i = 0; i < count; i++) {
                CuratorFramework client = Curators.open(server);
                AtomicInteger mine = new AtomicInteger();
                LeaderSelector selector = new LeaderSelector(client, top, new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework same) throws Exception {
                        try {
                            room.enter(1);
                            Thread.sleep(5);
                        } catch (AssertionError error) {
                            broken.add(error);
                        } finally {
                            // Also whoever is interrupted by the end of the scenario.
                            room.leave();
                        }
                        if (mine.incrementAndGet() <= turns) {
                            done.countDown();
                        }
                    }
                });
                selector.setId("s" + i);
                selector.autoRequeue();
                selector.start();
                all.add(selector::close);
                all.add(client);
            }
            Client.await(done);
            same(List.of(), broken);
        } finally {
            for (AutoCloseable one : all) {
                one.close();
            }
        }
        same(1, room.most());
    }

    /** A selector that leads until it is interrupted. */
    private static LeaderSelector holding(CuratorFramework client, String path, AtomicInteger leading) {
        LeaderSelector selector = new LeaderSelector(client, path, new LeaderSelectorListenerAdapter() {
            @Override
            public void takeLeadership(CuratorFramework same) throws Exception {
                leading.incrementAndGet();
                try {
                    Thread.sleep(60_000);
                } finally {
                    leading.decrementAndGet();
                }
            }
        });
        selector.start();
        return selector;
    }

    private static void selectorDies(Server server, String top) throws Exception {
        AtomicInteger firstLeads = new AtomicInteger();
        AtomicInteger secondLeads = new AtomicInteger();
        try (Link link = new Link(server); CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
                CuratorFramework heir = Curators.open(server);
                LeaderSelector first = holding(dying, top, firstLeads)) {
            soon("first leads", () -> firstLeads.get() == 1);
            try (LeaderSelector second = holding(heir, top, secondLeads)) {
                soon("second waits", () -> second.getParticipants().size() == 2);
                same(0, secondLeads.get());
                link.cut();
                soon("second leads", () -> secondLeads.get() == 1);
                same(0, firstLeads.get());
                yes(!first.hasLeadership() && second.hasLeadership(), "and both know");
            }
        }
    }

    private static void interrupt(Server server, String top) throws Exception {
        AtomicInteger firstLeads = new AtomicInteger();
        AtomicInteger secondLeads = new AtomicInteger();
        try (CuratorFramework one = Curators.open(server); CuratorFramework other = Curators.open(server);
                LeaderSelector first = holding(one, top, firstLeads)) {
            soon("first leads", () -> firstLeads.get() == 1);
            try (LeaderSelector second = holding(other, top, secondLeads)) {
                soon("second waits", () -> second.getParticipants().size() == 2);
                first.interruptLeadership();
                soon("second leads", () -> secondLeads.get() == 1);
                same(0, firstLeads.get());
                // Asked for again, it comes back when the second gives up.
                yes(first.requeue(), "first queues again");
                second.interruptLeadership();
                soon("first leads again", () -> firstLeads.get() == 1);
            }
        }
    }
}
