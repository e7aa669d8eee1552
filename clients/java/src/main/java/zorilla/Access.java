package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.create;
import static zorilla.Check.fails;
import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** Who may do what, and who one is. */
final class Access {
    /** {@code bob:secret} and {@code super:topsecret} as the digest scheme names them: base64 of the SHA-1. */
    private static final String BOB = digest("bob:secret");
    private static final String SUPER = digest("super:topsecret");

    private Access() {
    }

    private static String digest(String user) {
        try {
            byte[] hash = java.security.MessageDigest.getInstance("SHA-1").digest(bytes(user));
            return user.substring(0, user.indexOf(':')) + ":" + java.util.Base64.getEncoder().encodeToString(hash);
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new AssertionError(impossible);
        }
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a znode of its creator only", Access::creatorOnly);
        suite.add("each permission allows its operations and no other", Access::eachPermission);
        suite.add("the digest scheme", Access::digestScheme);
        suite.add("the auth scheme stands for every digest of the connection", Access::authScheme);
        suite.add("the ip scheme", Access::ipScheme);
        suite.add("ACLs that are refused", Access::invalid);
        suite.add("setACL, its versions, and doubled entries", Access::setAcl);
        suite.add("getACL hides digests from those who may not administer", Access::masking);
        suite.add("whoAmI", Access::whoAmI);
        suite.add("identities are told again after a reconnect", Access::reconnect);
        suite.add("an unknown scheme fails the client", Access::unknownScheme);
        suite.add("ACLs survive kill -9", Access::restart);
        suite.on("-Dzookeeper.DigestAuthenticationProvider.superDigest=" + SUPER);
        suite.add("super may do everything", Access::superUser);
        suite.on("-Dzookeeper.skipACL=yes");
        suite.add("skipACL asks nobody", Access::skipAcl);
        suite.on("-Dzookeeper.DigestAuthenticationProvider.digestAlg=SHA-256");
        suite.add("digests of another algorithm", Access::otherAlgorithm);
    }

    private static Client named(Server server, String... users) throws Exception {
        Client client = new Client(server);
        for (String user : users) {
            client.zk.addAuthInfo("digest", bytes(user));
        }
        return client;
    }

    private static List<ACL> acl(int perms, String scheme, String id) {
        // The client looks for null in it, which the list of `List.of` refuses.
        return Collections.singletonList(new ACL(perms, new Id(scheme, id)));
    }

    private static void creatorOnly(Server server, String top) throws Exception {
        try (Client owner = named(server, "bob:secret"); Client other = named(server, "eve:guess")) {
            owner.zk.create(top, bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            create(owner.zk, top + "/open");
            ZooKeeper zk = other.zk;
            fails(Code.NOAUTH, () -> zk.getData(top, false, null));
            fails(Code.NOAUTH, () -> zk.getChildren(top, false));
            fails(Code.NOAUTH, () -> zk.getAllChildrenNumber(top));
            fails(Code.NOAUTH, () -> zk.setData(top, null, -1));
            fails(Code.NOAUTH, () -> create(zk, top + "/x"));
            fails(Code.NOAUTH, () -> zk.delete(top + "/open", -1));
            fails(Code.NOAUTH, () -> zk.getACL(top, null));
            fails(Code.NOAUTH, () -> zk.setACL(top, Ids.OPEN_ACL_UNSAFE, -1));
            fails(Code.NOAUTH, () -> zk.exists(top, false));
            // A child does not inherit.
            zk.setData(top + "/open", bytes("x"), -1);
            zk.addAuthInfo("digest", bytes("bob:secret"));
            same("mine", text(zk.getData(top, false, null)));
            zk.delete(top + "/open", -1);
            zk.delete(top, -1);
        }
    }

    private static void eachPermission(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            int[] all = {Perms.READ, Perms.WRITE, Perms.CREATE, Perms.DELETE, Perms.ADMIN};
            for (int perm : all) {
                String path = top + "/" + perm;
                create(zk, path);
                create(zk, path + "/child");
                zk.setACL(path, acl(perm, "world", "anyone"), -1);
                allowed(perm == Perms.READ, () -> zk.getData(path, false, null));
                allowed(perm == Perms.READ, () -> zk.exists(path, false));
                allowed(perm == Perms.READ, () -> zk.getAllChildrenNumber(path));
                allowed(perm == Perms.READ, () -> zk.getChildren(path, false));
                allowed(perm == Perms.READ, () -> zk.getChildren(path, false, new Stat()));
                allowed(perm == Perms.WRITE, () -> zk.setData(path, null, -1));
                allowed(perm == Perms.CREATE, () -> create(zk, path + "/new"));
                allowed(perm == Perms.DELETE, () -> zk.delete(path + "/child", -1));
                allowed(perm == Perms.READ || perm == Perms.ADMIN, () -> zk.getACL(path, null));
                allowed(perm == Perms.ADMIN, () -> zk.setACL(path, Ids.OPEN_ACL_UNSAFE, -1));
            }
        }
    }

    private static void allowed(boolean is, Check.Call call) throws Exception {
        if (is) {
            call.run();
        } else {
            fails(Code.NOAUTH, call);
        }
    }

    private static void digestScheme(Server server, String top) throws Exception {
        try (Client client = new Client(server); Client bob = named(server, "bob:secret");
                Client wrong = named(server, "bob:other")) {
            // One need not be bob to give a znode to bob.
            client.zk.create(top, bytes("for bob"), acl(Perms.ALL, "digest", BOB), CreateMode.PERSISTENT);
            fails(Code.NOAUTH, () -> client.zk.getData(top, false, null));
            fails(Code.NOAUTH, () -> wrong.zk.getData(top, false, null));
            same("for bob", text(bob.zk.getData(top, false, null)));
            same(acl(Perms.ALL, "digest", BOB), bob.zk.getACL(top, new Stat()));
        }
    }

    private static void authScheme(Server server, String top) throws Exception {
        try (Client client = named(server, "bob:secret", "ann:hidden"); Client ann = named(server, "ann:hidden")) {
            client.zk.create(top, null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            same(new TreeSet<>(List.of(BOB, digest("ann:hidden"))),
                    new TreeSet<>(client.zk.getACL(top, null).stream().map(acl -> acl.getId().getId()).toList()));
            ann.zk.setData(top, null, -1);
            // Whatever stands behind `auth:` is not looked at.
            client.zk.create(top + "/x", null, acl(Perms.READ, "auth", "whoever"), CreateMode.PERSISTENT);
            same(2, client.zk.getACL(top + "/x", null).size());
        }
        try (Client nobody = new Client(server)) {
            fails(Code.INVALIDACL,
                    () -> nobody.zk.create(top + "x", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        }
    }

    private static void ipScheme(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            for (String mine : List.of("127.0.0.1", "127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/1")) {
                String path = top + "/" + mine.replace('/', '_');
                zk.create(path, bytes("x"), acl(Perms.ALL, "ip", mine), CreateMode.PERSISTENT);
                same("x", text(zk.getData(path, false, null)));
                same(acl(Perms.ALL, "ip", mine), zk.getACL(path, null));
            }
            for (String other : List.of("127.0.0.2", "10.0.0.0/8", "128.0.0.0/1")) {
                String path = top + "/" + other.replace('/', '_');
                zk.create(path, bytes("x"), acl(Perms.ALL, "ip", other), CreateMode.PERSISTENT);
                fails(Code.NOAUTH, () -> zk.getData(path, false, null));
            }
        }
    }

    private static void invalid(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            List<List<ACL>> all = List.of(
                    acl(Perms.ALL, "nonsense", "x"),
                    acl(Perms.ALL, "world", "someone"),
                    acl(Perms.ALL, "digest", "without-colon"),
                    acl(Perms.ALL, "digest", "a:b:c"),
                    acl(Perms.ALL, "ip", "not an address"),
                    acl(Perms.ALL, "ip", "127.0.0.1/99"),
                    acl(Perms.ALL, "ip", "127.0.0"),
                    acl(Perms.ALL, "auth", ""));
            for (List<ACL> one : all) {
                fails(Code.INVALIDACL, () -> zk.create(top + "/x", null, one, CreateMode.PERSISTENT));
                fails(Code.INVALIDACL, () -> zk.setACL(top, one, -1));
            }
            fails(Code.INVALIDACL, () -> zk.setACL(top, List.of(), -1));
            same(0, zk.exists(top, false).getAversion());
            same(null, zk.exists(top + "/x", false));
        }
    }

    private static void setAcl(Server server, String top) throws Exception {
        try (Client client = named(server, "bob:secret")) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            Stat stat = zk.setACL(top, Ids.CREATOR_ALL_ACL, 0);
            same(1, stat.getAversion());
            same(0, stat.getVersion());
            same(stat.getCzxid(), stat.getMzxid());
            fails(Code.BADVERSION, () -> zk.setACL(top, Ids.OPEN_ACL_UNSAFE, 0));
            fails(Code.NONODE, () -> zk.setACL(top + "/no", Ids.OPEN_ACL_UNSAFE, -1));
            fails(Code.NONODE, () -> zk.getACL(top + "/no", null));
            List<ACL> doubled = new ArrayList<>(Ids.OPEN_ACL_UNSAFE);
            doubled.addAll(Ids.READ_ACL_UNSAFE);
            doubled.addAll(Ids.OPEN_ACL_UNSAFE);
            doubled.addAll(Ids.CREATOR_ALL_ACL);
            zk.setACL(top, doubled, 1);
            Stat read = new Stat();
            List<ACL> found = zk.getACL(top, read);
            same(2, read.getAversion());
            same(read, zk.exists(top, false));
            same(List.of(Ids.OPEN_ACL_UNSAFE.get(0), Ids.READ_ACL_UNSAFE.get(0),
                    new ACL(Perms.ALL, new Id("digest", BOB))), found);
        }
    }

    private static void masking(Server server, String top) throws Exception {
        try (Client owner = named(server, "bob:secret"); Client reader = new Client(server)) {
            List<ACL> acl = new ArrayList<>(acl(Perms.ALL, "digest", BOB));
            acl.addAll(Ids.READ_ACL_UNSAFE);
            owner.zk.create(top, null, acl, CreateMode.PERSISTENT);
            same(acl, owner.zk.getACL(top, null));
            List<ACL> masked = new ArrayList<>(acl(Perms.ALL, "digest", "bob:x"));
            masked.addAll(Ids.READ_ACL_UNSAFE);
            same(masked, reader.zk.getACL(top, null));
        }
    }

    private static void whoAmI(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            same(List.of(new ClientInfo("ip", "127.0.0.1")), client.zk.whoAmI());
            client.zk.addAuthInfo("digest", bytes("bob:secret"));
            client.zk.addAuthInfo("digest", bytes("ann:hidden"));
            client.zk.addAuthInfo("digest", bytes("bob:secret"));
            same(new TreeSet<>(List.of("ip 127.0.0.1", "digest bob", "digest ann")), new TreeSet<>(
                    client.zk.whoAmI().stream().map(info -> info.getAuthScheme() + " " + info.getUser()).toList()));
            same(3, client.zk.whoAmI().size());
        }
    }

    private static void reconnect(Server server, String top) throws Exception {
        try (Link link = new Link(server); Client client = new Client(link, 8000)) {
            client.zk.addAuthInfo("digest", bytes("bob:secret"));
            client.zk.create(top, bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            client.zk.getData(top, client.watcher(), null);
            for (int round = 0; round < 3; round++) {
                client.states.clear();
                link.breakAll();
                client.awaitState(KeeperState.SyncConnected);
                same("mine", text(client.zk.getData(top, false, null)));
            }
            // The watch was set again although the znode is not for everybody.
            client.zk.setData(top, null, -1);
            same("NodeDataChanged " + top, client.event());
        }
    }

    private static void unknownScheme(Server server, String top) throws Exception {
        try (Client other = new Client(server); Client client = new Client(server)) {
            client.zk.addAuthInfo("nonsense", bytes("x"));
            client.awaitState(KeeperState.AuthFailed);
            fails(Code.AUTHFAILED, () -> client.zk.exists("/", false));
            yes(other.zk.exists("/", false) != null, "nobody else is concerned");
        }
    }

    private static void restart(Server server, String top) throws Exception {
        try (Client owner = named(server, "bob:secret"); Client other = new Client(server)) {
            owner.zk.create(top, bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            owner.zk.create(top + "/x", null, Ids.READ_ACL_UNSAFE, CreateMode.PERSISTENT);
            owner.zk.create(top + "/y", null, Ids.READ_ACL_UNSAFE, CreateMode.PERSISTENT);
            owner.states.clear();
            other.states.clear();
            server.kill();
            server.start();
            owner.awaitState(KeeperState.SyncConnected);
            other.awaitState(KeeperState.SyncConnected);
            same("mine", text(owner.zk.getData(top, false, null)));
            fails(Code.NOAUTH, () -> other.zk.getData(top, false, null));
            same(Ids.READ_ACL_UNSAFE, other.zk.getACL(top + "/x", null));
            same(Ids.READ_ACL_UNSAFE, other.zk.getACL(top + "/y", null));
        }
    }

    private static void superUser(Server server, String top) throws Exception {
        try (Client owner = named(server, "bob:secret"); Client god = named(server, "super:topsecret");
                Client guess = named(server, "super:guess")) {
            owner.zk.create(top, bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            fails(Code.NOAUTH, () -> guess.zk.getData(top, false, null));
            same("mine", text(god.zk.getData(top, false, null)));
            same(acl(Perms.ALL, "digest", BOB), god.zk.getACL(top, null));
            create(god.zk, top + "/x");
            god.zk.setACL(top, Ids.READ_ACL_UNSAFE, -1);
            god.zk.setData(top, null, -1);
            yes(god.zk.whoAmI().stream().anyMatch(info -> info.getAuthScheme().equals("super")), "super knows itself");
            fails(Code.NOAUTH, () -> owner.zk.delete(top + "/x", -1));
            god.zk.delete(top + "/x", -1);
            god.zk.delete(top, -1);
            soon("the znode is gone", () -> owner.zk.exists(top, false) == null);
        }
    }

    private static void skipAcl(Server server, String top) throws Exception {
        try (Client owner = named(server, "bob:secret"); Client other = new Client(server)) {
            owner.zk.create(top, bytes("mine"), Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            same("mine", text(other.zk.getData(top, false, null)));
            other.zk.setData(top, null, -1);
            other.zk.setACL(top, Ids.READ_ACL_UNSAFE, -1);
            create(other.zk, top + "/x");
            // Who may do it is not asked; whether it makes sense still is.
            fails(Code.INVALIDACL, () -> other.zk.setACL(top, acl(Perms.ALL, "nonsense", "x"), -1));
        }
    }

    private static void otherAlgorithm(Server server, String top) throws Exception {
        byte[] hash = java.security.MessageDigest.getInstance("SHA-256").digest(bytes("bob:secret"));
        String id = "bob:" + java.util.Base64.getEncoder().encodeToString(hash);
        try (Client owner = named(server, "bob:secret")) {
            owner.zk.create(top, null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            same(acl(Perms.ALL, "digest", id), owner.zk.getACL(top, null));
            owner.zk.create(top + "/old", null, acl(Perms.ALL, "digest", BOB), CreateMode.PERSISTENT);
            fails(Code.NOAUTH, () -> owner.zk.getData(top + "/old", false, null));
        }
    }
}
