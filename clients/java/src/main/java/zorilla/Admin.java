package zorilla;

import static zorilla.Check.bytes;
import static zorilla.Check.create;
import static zorilla.Check.fails;
import static zorilla.Check.same;
import static zorilla.Check.text;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.StatsTrack;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.cli.DelQuotaCommand;
import org.apache.zookeeper.cli.ListQuotaCommand;
import org.apache.zookeeper.cli.SetQuotaCommand;
import org.apache.zookeeper.data.Stat;

/** Quotas, the configuration znode, reconfiguration of a lone server, and clients that live in a part of the tree. */
final class Admin {
    private Admin() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a soft quota counts and refuses nothing", Admin::softQuota);
        suite.add("a quota is told, changed and taken away", Admin::quotaCommands);
        suite.add("getConfig of a lone server", Admin::config);
        suite.add("reconfig is refused where it is not enabled", Admin::reconfigDisabled);
        suite.add("a client in a chroot", Admin::chroot);
        suite.add("watches in a chroot", Admin::chrootWatches);
        suite.add("a chroot that is not there", Admin::chrootMissing);
        suite.on("enforceQuota=true");
        suite.add("a hard quota refuses", Admin::hardQuota);
        suite.on("reconfigEnabled=true", "-Dzookeeper.skipACL=yes");
        suite.add("reconfig of a lone server is not implemented", Admin::reconfigEnabled);
    }

    private static StatsTrack quota(long count, long bytes, long countHard, long bytesHard) {
        StatsTrack quota = new StatsTrack();
        quota.setCount(count);
        quota.setBytes(bytes);
        quota.setCountHardLimit(countHard);
        quota.setByteHardLimit(bytesHard);
        return quota;
    }

    private static StatsTrack stats(ZooKeeper zk, String path) throws Exception {
        return new StatsTrack(zk.getData("/zookeeper/quota" + path + "/zookeeper_stats", false, null));
    }

    private static void softQuota(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            zk.create(top, bytes("four"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            create(zk, top + "/a");
            yes(SetQuotaCommand.createQuota(zk, top, quota(3, 10, -1, -1)), "the quota is set");
            same(2L, stats(zk, top).getCount());
            same(4L, stats(zk, top).getBytes());
            for (int i = 0; i < 5; i++) {
                zk.create(top + "/a/" + i, bytes("0123456789"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            }
            same(7L, stats(zk, top).getCount());
            same(54L, stats(zk, top).getBytes());
            zk.setData(top + "/a/0", bytes("0"), -1);
            zk.delete(top + "/a/1", -1);
            zk.multi(List.of(Op.delete(top + "/a/2", -1), Op.setData(top, null, -1)));
            fails(Code.NONODE, () -> zk.multi(List.of(Op.delete(top + "/a/3", -1), Op.check(top + "/no", 0))));
            same(5L, stats(zk, top).getCount());
            same(21L, stats(zk, top).getBytes());
        }
    }

    private static void quotaCommands(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            create(zk, top + "/a");
            yes(SetQuotaCommand.createQuota(zk, top, quota(3, -1, 9, -1)), "the quota is set");
            yes(SetQuotaCommand.createQuota(zk, top, quota(-1, 100, -1, 200)), "a second one adds to it");
            List<StatsTrack> listed = ListQuotaCommand.listQuota(zk, top);
            same(2, listed.size());
            same(List.of(3L, 100L, 9L, 200L), List.of(listed.get(0).getCount(), listed.get(0).getBytes(),
                    listed.get(0).getCountHardLimit(), listed.get(0).getByteHardLimit()));
            same(2L, listed.get(1).getCount());
            // Neither above nor below it may be another one.
            try {
                SetQuotaCommand.createQuota(zk, top + "/a", quota(1, -1, -1, -1));
                throw new AssertionError("a quota below a quota");
            } catch (IllegalArgumentException expected) {
                yes(expected.getMessage().contains(top), expected.getMessage());
            }
            StatsTrack all = quota(1, 1, 1, 1);
            yes(DelQuotaCommand.delQuota(zk, top, all), "the quota is taken away");
            StatsTrack left = ListQuotaCommand.listQuota(zk, top).get(0);
            same(List.of(-1L, -1L), List.of(left.getCount(), left.getByteHardLimit()));
            // Whoever removes the znodes of a quota ends the counting.
            zk.delete("/zookeeper/quota" + top + "/zookeeper_limits", -1);
            zk.delete("/zookeeper/quota" + top + "/zookeeper_stats", -1);
            zk.delete("/zookeeper/quota" + top, -1);
            create(zk, top + "/b");
            same(null, zk.exists("/zookeeper/quota" + top, false));
        }
    }

    private static void hardQuota(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            yes(SetQuotaCommand.createQuota(zk, top, quota(-1, -1, 3, 10)), "the quota is set");
            create(zk, top + "/a");
            create(zk, top + "/b");
            fails(Code.QUOTAEXCEEDED, () -> create(zk, top + "/c"));
            fails(Code.QUOTAEXCEEDED, () -> create(zk, top + "/a/c"));
            zk.setData(top + "/a", bytes("0123456789"), -1);
            fails(Code.QUOTAEXCEEDED, () -> zk.setData(top + "/b", bytes("x"), -1));
            fails(Code.QUOTAEXCEEDED, () -> zk.setData(top + "/a", bytes("0123456789x"), -1));
            zk.setData(top + "/a", bytes("9876543210"), -1);
            zk.delete(top + "/b", -1);
            fails(Code.QUOTAEXCEEDED,
                    () -> zk.create(top + "/c", bytes("x"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            fails(Code.QUOTAEXCEEDED, () -> zk.multi(List.of(
                    Op.create(top + "/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.setData(top + "/c", bytes("x"), -1))));
            create(zk, top + "/c");
            same(new TreeSet<>(List.of("a", "c")), new TreeSet<>(zk.getChildren(top, false)));
            same(3L, stats(zk, top).getCount());
            same(10L, stats(zk, top).getBytes());
            // Beside it everything goes.
            create(zk, top + "x");
        }
    }

    private static void config(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            Stat stat = new Stat();
            byte[] data = client.zk.getConfig(client.watcher(), stat);
            same(0, data == null ? 0 : data.length);
            same(stat, client.zk.exists("/zookeeper/config", false));
            fails(Code.NOAUTH, () -> client.zk.setData("/zookeeper/config", bytes("x"), -1));
            same(new TreeSet<>(List.of("config", "quota")), new TreeSet<>(client.zk.getChildren("/zookeeper", false)));
        }
    }

    private static ZooKeeperAdmin admin(Server server) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeperAdmin admin = new ZooKeeperAdmin(server.hosts(), 8000, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        Client.await(connected);
        return admin;
    }

    private static void reconfigDisabled(Server server, String top) throws Exception {
        try (ZooKeeperAdmin admin = admin(server)) {
            fails(Code.RECONFIGDISABLED,
                    () -> admin.reconfigure("server.2=127.0.0.1:2888:3888;2181", null, null, -1, new Stat()));
            yes(admin.exists("/", false) != null, "the connection goes on");
        }
    }

    private static void reconfigEnabled(Server server, String top) throws Exception {
        try (ZooKeeperAdmin admin = admin(server)) {
            fails(Code.UNIMPLEMENTED,
                    () -> admin.reconfigure("server.2=127.0.0.1:2888:3888;2181", null, null, -1, new Stat()));
            yes(admin.exists("/", false) != null, "the connection goes on");
        }
    }

    private static void chroot(Server server, String top) throws Exception {
        try (Client outside = new Client(server)) {
            create(outside.zk, top);
            try (Client inside = new Client(server.hosts() + top, 8000)) {
                ZooKeeper zk = inside.zk;
                same("/a", zk.create("/a", bytes("1"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
                same("/a/s-0000000000",
                        zk.create("/a/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL));
                same("/box", zk.create("/box", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER));
                same(new TreeSet<>(List.of("a", "box")), new TreeSet<>(zk.getChildren("/", false)));
                same("1", text(outside.zk.getData(top + "/a", false, null)));
                zk.setData("/", bytes("root"), 0);
                same("root", text(outside.zk.getData(top, false, null)));
                same(3, zk.getAllChildrenNumber("/"));
                CountDownLatch done = new CountDownLatch(1);
                zk.sync("/", (rc, path, ctx) -> done.countDown(), null);
                Client.await(done);
                zk.multi(List.of(Op.check("/a", 0), Op.delete("/box", 0),
                        Op.create("/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)));
                // The one call that the client neither prefixes nor strips.
                same(List.of(top + "/a/s-0000000000"), zk.getEphemerals(top));
                fails(Code.NONODE, () -> zk.getData(top, false, null));
            }
            same(new TreeSet<>(List.of("a", "b")), new TreeSet<>(outside.zk.getChildren(top, false)));
        }
    }

    private static void chrootWatches(Server server, String top) throws Exception {
        try (Client outside = new Client(server)) {
            create(outside.zk, top);
            try (Link link = new Link(server); Client inside = new Client(link.hosts() + top, 8000)) {
                ZooKeeper zk = inside.zk;
                zk.getChildren("/", inside.watcher());
                zk.exists("/a", inside.watcher());
                zk.addWatch("/deep", inside.watcher(), AddWatchMode.PERSISTENT_RECURSIVE);
                inside.states.clear();
                link.breakAll();
                inside.awaitState(Watcher.Event.KeeperState.SyncConnected);
                inside.settle();
                create(outside.zk, top + "/a");
                create(outside.zk, top + "/deep");
                create(outside.zk, top + "/deep/x");
                same(List.of("NodeCreated /a", "NodeChildrenChanged /", "NodeCreated /deep", "NodeCreated /deep/x"),
                        inside.events(4));
                inside.assertNoEvent();
            }
        }
    }

    private static void chrootMissing(Server server, String top) throws Exception {
        try (Client inside = new Client(server.hosts() + top + "/no", 8000); Client outside = new Client(server)) {
            same(null, inside.zk.exists("/", false));
            fails(Code.NONODE, () -> inside.zk.getChildren("/", false));
            fails(Code.NONODE, () -> create(inside.zk, "/a"));
            create(outside.zk, top);
            List<String> made = Collections.synchronizedList(new ArrayList<>());
            made.add(inside.zk.create("/", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            made.add(inside.zk.create("/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            // For the root of the chroot the client has no name.
            same(List.of("", "/a"), made);
            same(List.of("a"), outside.zk.getChildren(top + "/no", false));
        }
    }
}
