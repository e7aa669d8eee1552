// Leader election: of several candidates one leads; when it goes or dies, the next one does.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/Election.java 127.0.0.1:2181

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderLatchListener;
import org.apache.curator.retry.ExponentialBackoffRetry;

public class Election {
    static final String TOP = "/examples/java/election";

    /** One process that could lead. */
    static class Candidate {
        final String name;
        final CuratorFramework client;
        final LeaderLatch latch;

        Candidate(String servers, String name) throws Exception {
            this.name = name;
            client = connect(servers);
            latch = new LeaderLatch(client, TOP, name);
            latch.addListener(new LeaderLatchListener() {
                @Override
                public void isLeader() {
                    System.out.println(name + " leads");
                }

                @Override
                public void notLeader() {
                    // Also when the connection is lost: from here on another one may lead.
                    System.out.println(name + " leads no more");
                }
            });
            latch.start();
        }
    }

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        try (CuratorFramework client = connect(servers)) {
            client.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);
        }
        List<Candidate> candidates = new ArrayList<>();
        for (String name : List.of("ann", "bob", "cid")) {
            candidates.add(new Candidate(servers, name));
        }
        List<String> led = new ArrayList<>();
        while (!candidates.isEmpty()) {
            Candidate leader = await(candidates);
            led.add(leader.name);
            for (Candidate other : candidates) {
                check(other == leader || !other.latch.hasLeadership(),
                        "two leaders: " + leader.name + ", " + other.name);
            }
            candidates.remove(leader);
            if (candidates.size() == 1) {
                // It resigns.
                leader.latch.close();
            }
            // The others go without a word: the session ends, and the leadership with it.
            leader.client.close();
        }
        check(led.size() == 3, "everybody led: " + led);
        System.out.println("election: done");
    }

    static Candidate await(List<Candidate> candidates) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (true) {
            for (Candidate candidate : candidates) {
                if (candidate.latch.hasLeadership()) {
                    return candidate;
                }
            }
            check(System.nanoTime() < deadline, "nobody leads");
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
