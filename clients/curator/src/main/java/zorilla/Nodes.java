package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.zookeeper.CreateMode;

/** Znodes that a client keeps alive, and groups of clients. */
final class Nodes {
    private Nodes() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a persistent node comes back when it is deleted", Nodes::deleted);
        suite.add("a persistent node comes back after its session was lost", Nodes::lostSession);
        suite.add("a persistent node goes when it is closed", Nodes::closed);
        suite.add("members of a group see one another come and go", Nodes::group);
        suite.add("a dead member leaves its group, and comes back", Nodes::deadMember);
    }

    private static PersistentNode node(CuratorFramework client, CreateMode mode, String path) throws Exception {
        PersistentNode node = new PersistentNode(client, mode, false, path, bytes("x"));
        node.start();
        yes(node.waitForInitialCreate(Client.SECONDS_MAX, TimeUnit.SECONDS), "it is created");
        return node;
    }

    private static void deleted(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            for (CreateMode mode : List.of(CreateMode.EPHEMERAL, CreateMode.PERSISTENT, CreateMode.CONTAINER)) {
                String path = top + "/" + mode;
                try (PersistentNode node = node(client, mode, path)) {
                    for (int i = 0; i < 3; i++) {
                        long zxid = other.checkExists().forPath(path).getCzxid();
                        other.delete().forPath(path);
                        soon("it is back", () -> other.checkExists().forPath(path) != null);
                        yes(zxid < other.checkExists().forPath(path).getCzxid(), "it is a new one");
                    }
                    node.setData(bytes("y"));
                    soon("its data changed", () -> text(other.getData().forPath(path)).equals("y"));
                    other.delete().forPath(path);
                    soon("it is back", () -> other.checkExists().forPath(path) != null);
                    same("y", text(other.getData().forPath(path)));
                }
            }
        }
    }

    private static void lostSession(Server server, String top) throws Exception {
        try (Link link = new Link(server); CuratorFramework client = Curators.open(link, Curators.SHORT_SESSION_MS);
                CuratorFramework other = Curators.open(server);
                PersistentNode node = node(client, CreateMode.EPHEMERAL, top + "/n")) {
            long owner = other.checkExists().forPath(top + "/n").getEphemeralOwner();
            link.cut();
            soon("it is gone", () -> other.checkExists().forPath(top + "/n") == null);
            link.restore();
            soon("it is back", () -> other.checkExists().forPath(top + "/n") != null);
            yes(owner != other.checkExists().forPath(top + "/n").getEphemeralOwner(), "of another session");
            same(top + "/n", node.getActualPath());
        }
    }

    private static void closed(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); CuratorFramework other = Curators.open(server)) {
            PersistentNode node = node(client, CreateMode.PERSISTENT, top + "/n");
            yes(other.checkExists().forPath(top + "/n") != null, "it is there");
            node.close();
            soon("it is gone", () -> other.checkExists().forPath(top + "/n") == null);
        }
    }

    private static Set<String> members(GroupMember member) {
        return Map.copyOf(member.getCurrentMembers()).keySet();
    }

    private static void group(Server server, String top) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        List<GroupMember> group = new ArrayList<>();
        try {
            for (String id : List.of("a", "b", "c")) {
                CuratorFramework client = Curators.open(server);
                GroupMember member = new GroupMember(client, top, id, bytes("of " + id));
                member.start();
                clients.add(client);
                group.add(member);
            }
            for (GroupMember member : group) {
                soon("it sees all", () -> members(member).equals(Set.of("a", "b", "c")));
                same("of b", text(member.getCurrentMembers().get("b")));
            }
            group.get(1).setThisData(bytes("new"));
            soon("its data is seen", () -> text(group.get(0).getCurrentMembers().get("b")).equals("new"));
            group.get(2).close();
            for (GroupMember member : group.subList(0, 2)) {
                soon("it left", () -> members(member).equals(Set.of("a", "b")));
            }
        } finally {
            for (GroupMember member : group) {
                member.close();
            }
            for (CuratorFramework client : clients) {
                client.close();
            }
        }
    }

    private static void deadMember(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); Link link = new Link(server);
                CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
                GroupMember watching = new GroupMember(client, top, "watching");
                GroupMember dead = new GroupMember(dying, top, "dead")) {
            watching.start();
            dead.start();
            soon("both are there", () -> members(watching).size() == 2);
            link.cut();
            soon("one is dead", () -> members(watching).equals(Set.of("watching")));
            link.restore();
            soon("both are there again", () -> members(watching).size() == 2 && members(dead).size() == 2);
        }
    }
}
