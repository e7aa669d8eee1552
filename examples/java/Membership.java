// Membership: the members of a group see who else is there; who goes or dies is gone from everybody's list.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/Membership.java 127.0.0.1:2181

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.retry.ExponentialBackoffRetry;

public class Membership {
    static final String TOP = "/examples/java/membership";

    /** One process of the group. */
    static class Member {
        final CuratorFramework client;
        final GroupMember group;

        Member(String servers, String name) throws Exception {
            client = connect(servers);
            group = new GroupMember(client, TOP, name, ("address of " + name).getBytes(StandardCharsets.UTF_8));
            group.start();
        }

        void leave() {
            group.close();
            client.close();
        }
    }

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        try (CuratorFramework client = connect(servers)) {
            client.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);
        }
        List<Member> members = new ArrayList<>();
        for (String name : List.of("ann", "bob", "cid")) {
            members.add(new Member(servers, name));
        }
        await(members, List.of("ann", "bob", "cid"));
        String address = new String(members.get(0).group.getCurrentMembers().get("cid"), StandardCharsets.UTF_8);
        check(address.equals("address of cid"), "what a member says of itself");

        members.remove(1).leave();
        await(members, List.of("ann", "cid"));
        members.add(new Member(servers, "dan"));
        await(members, List.of("ann", "cid", "dan"));

        // Without a word: its session ends, and its entry with it.
        members.remove(0).client.close();
        await(members, List.of("cid", "dan"));
        members.forEach(Member::leave);
        System.out.println("membership: done");
    }

    /** Everybody sees exactly these, sooner or later. */
    static void await(List<Member> members, Collection<String> expected) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        for (Member member : members) {
            while (!new TreeSet<>(member.group.getCurrentMembers().keySet()).equals(new TreeSet<>(expected))) {
                check(System.nanoTime() < deadline, "somebody sees " + member.group.getCurrentMembers().keySet());
                Thread.sleep(10);
            }
        }
        System.out.println("everybody sees " + expected);
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
