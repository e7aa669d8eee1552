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
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** Several operations at once: all of them happen, or none; and several reads at once, each on its own. */
final class Transactions {
    private Transactions() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("a transaction does all its operations at one zxid", Transactions::everyOperation);
        suite.add("operations of a transaction see those before them", Transactions::seesItself);
        suite.add("a failing transaction changes nothing, whichever operation fails", Transactions::failures);
        suite.add("a failing transaction names the operation at every place", Transactions::places);
        suite.add("the builder of transactions, waiting and not", Transactions::builder);
        suite.add("sequential names in a transaction", Transactions::sequential);
        suite.add("ephemerals of a transaction belong to its session", Transactions::ephemerals);
        suite.add("a transaction without operations", Transactions::empty);
        suite.add("a transaction of a thousand operations", Transactions::large);
        suite.add("watches see a transaction, and nothing of one that failed", Transactions::watches);
        suite.add("transactions in a pipeline of other requests", Transactions::pipeline);
        suite.add("contending transactions count without losing one", Transactions::contention);
        suite.add("a transaction survives kill -9 as a whole", Transactions::restart);
        suite.add("a multi-read answers each read on its own", Transactions::multiRead);
    }

    private static Op createOp(String path) {
        return Op.create(path, bytes("new"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void everyOperation(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            create(zk, top + "/old");
            List<OpResult> results = zk.multi(List.of(
                    Op.check(top, 0),
                    createOp(top + "/plain"),
                    Op.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL),
                    Op.create(top + "/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL),
                    Op.create(top + "/box", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER),
                    Op.setData(top, bytes("changed"), 0),
                    Op.delete(top + "/old", 0)));
            same(7, results.size());
            yes(results.get(0) instanceof OpResult.CheckResult, "a check answers a check");
            same(top + "/plain", ((OpResult.CreateResult) results.get(1)).getPath());
            same(top + "/e", ((OpResult.CreateResult) results.get(2)).getPath());
            same(top + "/s-0000000003", ((OpResult.CreateResult) results.get(3)).getPath());
            OpResult.CreateResult box = (OpResult.CreateResult) results.get(4);
            same(top + "/box", box.getPath());
            same(zk.exists(top + "/box", false), box.getStat());
            same(zk.exists(top, false).getMzxid(), ((OpResult.SetDataResult) results.get(5)).getStat().getMzxid());
            yes(results.get(6) instanceof OpResult.DeleteResult, "a delete answers a delete");
            same(new TreeSet<>(List.of("plain", "e", "s-0000000003", "box")),
                    new TreeSet<>(zk.getChildren(top, false)));
            Stat stat = new Stat();
            same("changed", text(zk.getData(top, false, stat)));
            same(stat.getMzxid(), zk.exists(top + "/plain", false).getCzxid());
            same(stat.getMzxid(), zk.exists(top + "/box", false).getCzxid());
            same(stat.getMzxid(), stat.getPzxid());
            same(6, stat.getCversion());
        }
    }

    private static void seesItself(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            zk.multi(List.of(
                    createOp(top),
                    createOp(top + "/a"),
                    createOp(top + "/a/b"),
                    Op.setData(top + "/a/b", bytes("1"), 0),
                    Op.check(top + "/a/b", 1),
                    Op.setData(top + "/a/b", bytes("2"), 1),
                    createOp(top + "/gone"),
                    Op.delete(top + "/gone", 0),
                    createOp(top + "/gone"),
                    Op.delete(top + "/gone", -1)));
            Stat stat = new Stat();
            same("2", text(zk.getData(top + "/a/b", false, stat)));
            same(2, stat.getVersion());
            same(List.of("a"), zk.getChildren(top, false));
            // A znode that the same transaction deletes is no parent any more, and one with children stays.
            fails(Code.NONODE, () -> zk.multi(List.of(Op.delete(top + "/a/b", -1), createOp(top + "/a/b/c"))));
            fails(Code.NOTEMPTY, () -> zk.multi(List.of(createOp(top + "/a/c"), Op.delete(top + "/a", -1))));
            fails(Code.NODEEXISTS, () -> zk.multi(List.of(createOp(top + "/x"), createOp(top + "/x"))));
            same(2, zk.exists(top + "/a/b", false).getVersion());
            same(List.of("a"), zk.getChildren(top, false));
        }
    }

    private static void failures(Server server, String top) throws Exception {
        try (Client client = new Client(server); Client owner = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            create(zk, top + "/full");
            create(zk, top + "/full/child");
            zk.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            owner.zk.addAuthInfo("digest", bytes("owner:secret"));
            owner.zk.create(top + "/private", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            List<ACL> nonsense = List.of(new ACL(31, new Id("nonsense", "x")));
            Stat before = zk.exists(top, false);
            List<String> children = new ArrayList<>(new TreeSet<>(zk.getChildren(top, false)));
            record Case(Code code, Op op) {
            }
            List<Case> cases = List.of(
                    new Case(Code.NONODE, Op.check(top + "/no", -1)),
                    new Case(Code.BADVERSION, Op.check(top, 7)),
                    new Case(Code.NOAUTH, Op.check(top + "/private", -1)),
                    new Case(Code.NODEEXISTS, createOp(top + "/full")),
                    new Case(Code.NONODE, createOp(top + "/no/child")),
                    new Case(Code.NOCHILDRENFOREPHEMERALS, createOp(top + "/e/child")),
                    new Case(Code.NOAUTH, createOp(top + "/private/child")),
                    new Case(Code.INVALIDACL, Op.create(top + "/x", null, nonsense, CreateMode.PERSISTENT)),
                    new Case(Code.NODEEXISTS,
                            Op.create(top + "/full", null, Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER)),
                    new Case(Code.NONODE, Op.setData(top + "/no", null, -1)),
                    new Case(Code.BADVERSION, Op.setData(top, null, 7)),
                    new Case(Code.NOAUTH, Op.setData(top + "/private", null, -1)),
                    new Case(Code.NONODE, Op.delete(top + "/no", -1)),
                    new Case(Code.BADVERSION, Op.delete(top + "/full", 7)),
                    new Case(Code.NOTEMPTY, Op.delete(top + "/full", -1)));
            for (Case one : cases) {
                List<Op> ops = List.of(createOp(top + "/n"), Op.setData(top, bytes("n"), -1), one.op,
                        Op.delete(top + "/n", -1));
                try {
                    zk.multi(ops);
                    throw new AssertionError("expected " + one.code + " of " + one.op.getPath());
                } catch (KeeperException error) {
                    same(one.code, error.code());
                    same(List.of(0, 0, one.code.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()), codes(error));
                }
                same(before, zk.exists(top, false));
                same(children, new ArrayList<>(new TreeSet<>(zk.getChildren(top, false))));
            }
        }
    }

    private static List<Integer> codes(KeeperException error) {
        return error.getResults().stream().map(result -> ((OpResult.ErrorResult) result).getErr()).toList();
    }

    private static void places(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            int count = 5;
            for (int bad = 0; bad < count; bad++) {
                List<Op> ops = new ArrayList<>(List.of(createOp(top)));
                List<Integer> expected = new ArrayList<>();
                for (int i = 1; i < count; i++) {
                    ops.add(createOp(top + "/" + i));
                }
                ops.add(bad, Op.check(top + "/no", 0));
                for (int i = 0; i <= count; i++) {
                    int skipped = Code.RUNTIMEINCONSISTENCY.intValue();
                    expected.add(i < bad ? 0 : i == bad ? Code.NONODE.intValue() : skipped);
                }
                try {
                    client.zk.multi(ops);
                    throw new AssertionError("the check of nothing fails");
                } catch (KeeperException error) {
                    same(expected, codes(error));
                }
                same(null, client.zk.exists(top, false));
            }
        }
    }

    private static void builder(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            List<OpResult> results = zk.transaction()
                    .create(top, bytes("1"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
                    .setData(top, bytes("2"), 0)
                    .check(top, 1)
                    .create(top + "/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT)
                    .delete(top + "/a", 0)
                    .commit();
            same(5, results.size());
            same(1, ((OpResult.SetDataResult) results.get(1)).getStat().getVersion());
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(2);
            zk.transaction().setData(top, bytes("3"), 1).check(top, 2).commit((rc, path, ctx, all) -> {
                found.add(rc + " of " + all.size());
                done.countDown();
            }, null);
            zk.transaction().check(top, 2).setData(top, bytes("4"), 1).commit((rc, path, ctx, all) -> {
                // For a transaction that failed the callback is given the code of the failing operation.
                found.add(rc + " of " + all.size());
                done.countDown();
            }, null);
            Client.await(done);
            same(List.of("0 of 2", Code.BADVERSION.intValue() + " of 2"), found);
            same("3", text(zk.getData(top, false, null)));
        }
    }

    private static void sequential(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            create(client.zk, top);
            Op op = Op.create(top + "/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
            same(List.of(top + "/s-0000000000", top + "/s-0000000001"), paths(client.zk.multi(List.of(op, op))));
            // What was rolled back gave its numbers back: the counter is the parent's, and the parent is as before.
            fails(Code.NONODE, () -> client.zk.multi(List.of(op, op, Op.check(top + "/no", -1))));
            same(List.of(top + "/s-0000000002"), paths(client.zk.multi(List.of(op))));
        }
    }

    private static List<String> paths(List<OpResult> results) {
        return results.stream().map(result -> ((OpResult.CreateResult) result).getPath()).toList();
    }

    private static void ephemerals(Server server, String top) throws Exception {
        try (Client witness = new Client(server)) {
            create(witness.zk, top);
            Client owner = new Client(server);
            owner.zk.multi(List.of(
                    Op.create(top + "/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL),
                    Op.create(top + "/s-", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL),
                    Op.create(top + "/gone", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL),
                    Op.delete(top + "/gone", -1)));
            same(owner.zk.getSessionId(), witness.zk.exists(top + "/a", false).getEphemeralOwner());
            same(new TreeSet<>(List.of(top + "/a", top + "/s-0000000001")), new TreeSet<>(owner.zk.getEphemerals(top)));
            fails(Code.NONODE, () -> owner.zk.multi(List.of(
                    Op.create(top + "/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL), Op.check(top + "/no", 0))));
            same(2, owner.zk.getEphemerals(top).size());
            // Another client frees the name, the owner does not mind, and closing deletes what is left.
            witness.zk.multi(List.of(Op.delete(top + "/a", -1), createOp(top + "/a")));
            owner.close();
            same(List.of("a"), witness.zk.getChildren(top, false));
            same(0L, witness.zk.exists(top + "/a", false).getEphemeralOwner());
        }
    }

    private static void empty(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            same(List.of(), client.zk.multi(List.of()));
            same(null, client.zk.exists(top, false));
        }
    }

    private static void large(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            List<Op> creates = new ArrayList<>(List.of(createOp(top)));
            List<Op> deletes = new ArrayList<>();
            for (int i = 0; i < 1000; i++) {
                creates.add(createOp(top + "/n" + i));
                deletes.add(Op.delete(top + "/n" + i, 0));
            }
            deletes.add(Op.delete(top, 0));
            same(1001, client.zk.multi(creates).size());
            same(1000, client.zk.exists(top, false).getNumChildren());
            List<Op> failing = new ArrayList<>(deletes);
            failing.add(Op.delete(top, 0));
            fails(Code.NONODE, () -> client.zk.multi(failing));
            same(1000, client.zk.exists(top, false).getNumChildren());
            same(1001, client.zk.multi(deletes).size());
            same(null, client.zk.exists(top, false));
        }
    }

    private static void watches(Server server, String top) throws Exception {
        try (Client reader = new Client(server); Client writer = new Client(server)) {
            create(writer.zk, top);
            create(writer.zk, top + "/a");
            create(writer.zk, top + "/b");
            reader.zk.getChildren(top, reader.watcher());
            reader.zk.getData(top + "/a", reader.watcher(), null);
            reader.zk.getData(top + "/b", reader.watcher(), null);
            reader.zk.exists(top + "/c", reader.watcher());
            List<Op> ops = List.of(
                    Op.setData(top + "/b", bytes("x"), -1),
                    Op.delete(top + "/a", -1),
                    createOp(top + "/c"));
            List<Op> failing = new ArrayList<>(ops);
            failing.add(Op.check(top, 99));
            fails(Code.BADVERSION, () -> writer.zk.multi(failing));
            reader.assertNoEvent();
            writer.zk.multi(ops);
            same(List.of("NodeDataChanged " + top + "/b", "NodeDeleted " + top + "/a", "NodeChildrenChanged " + top,
                    "NodeCreated " + top + "/c"), reader.events(4));
            reader.assertNoEvent();
        }
    }

    private static void pipeline(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            ZooKeeper zk = client.zk;
            create(zk, top);
            int rounds = 200;
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            List<String> expected = new ArrayList<>();
            CountDownLatch done = new CountDownLatch(4 * rounds);
            for (int i = 0; i < rounds; i++) {
                String name = top + "/" + i;
                zk.multi(List.of(createOp(name), Op.setData(top, bytes("" + i), i)), (rc, path, ctx, results) -> {
                    found.add("multi " + rc);
                    done.countDown();
                }, null);
                zk.multi(List.of(Op.delete(name, 0), Op.check(top, i)), (rc, path, ctx, results) -> {
                    found.add("failing " + rc);
                    done.countDown();
                }, null);
                zk.getData(top, false, (rc, path, ctx, data, stat) -> {
                    found.add("get " + text(data) + " children " + stat.getNumChildren());
                    done.countDown();
                }, null);
                zk.multi(List.of(Op.getData(name), Op.getChildren(top)), (rc, path, ctx, results) -> {
                    int children = ((OpResult.GetChildrenResult) results.get(1)).getChildren().size();
                    found.add("read " + text(((OpResult.GetDataResult) results.get(0)).getData()) + " " + children);
                    done.countDown();
                }, null);
                expected.addAll(List.of("multi 0", "failing " + Code.BADVERSION.intValue(),
                        "get " + i + " children " + (i + 1), "read new " + (i + 1)));
            }
            Client.await(done);
            same(expected, found);
        }
    }

    private static void contention(Server server, String top) throws Exception {
        int clients = 4;
        int rounds = 50;
        try (Client reader = new Client(server)) {
            reader.zk.create(top, bytes("0"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            List<Throwable> broken = Collections.synchronizedList(new ArrayList<>());
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < clients; i++) {
                String mine = top + "/" + i + "-";
                Thread thread = new Thread(() -> {
                    try (Client client = new Client(server)) {
                        for (int done = 0; done < rounds;) {
                            Stat stat = new Stat();
                            int value = Integer.parseInt(text(client.zk.getData(top, false, stat)));
                            try {
                                client.zk.multi(List.of(
                                        Op.setData(top, bytes("" + (value + 1)), stat.getVersion()),
                                        createOp(mine + value)));
                                done++;
                            } catch (KeeperException.BadVersionException lostTheRace) {
                                // Another client was faster: again, from what it left.
                            }
                        }
                    } catch (Throwable error) {
                        broken.add(error);
                    }
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
            same(List.of(), broken);
            same("" + clients * rounds, text(reader.zk.getData(top, false, null)));
            TreeSet<Integer> numbers = new TreeSet<>();
            for (String child : reader.zk.getChildren(top, false)) {
                numbers.add(Integer.parseInt(child.substring(child.indexOf('-') + 1)));
            }
            same(clients * rounds, numbers.size());
            same(clients * rounds, reader.zk.exists(top, false).getNumChildren());
        }
    }

    private static void restart(Server server, String top) throws Exception {
        try (Client client = new Client(server)) {
            client.zk.multi(List.of(createOp(top), createOp(top + "/a"), Op.setData(top, bytes("kept"), 0),
                    Op.create(top + "/e", null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL)));
            fails(Code.NODEEXISTS, () -> client.zk.multi(List.of(createOp(top + "/b"), createOp(top))));
            Stat before = client.zk.exists(top, false);
            client.states.clear();
            server.kill();
            server.start();
            client.awaitState(org.apache.zookeeper.Watcher.Event.KeeperState.SyncConnected);
            same(before, client.zk.exists(top, false));
            same(new TreeSet<>(List.of("a", "e")), new TreeSet<>(client.zk.getChildren(top, false)));
        }
    }

    private static void multiRead(Server server, String top) throws Exception {
        try (Client client = new Client(server); Client owner = new Client(server)) {
            ZooKeeper zk = client.zk;
            zk.create(top, bytes("data"), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            create(zk, top + "/a");
            create(zk, top + "/b");
            owner.zk.addAuthInfo("digest", bytes("owner:secret"));
            owner.zk.create(top + "/private", null, Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            List<OpResult> results = zk.multi(List.of(
                    Op.getChildren(top),
                    Op.getData(top),
                    Op.getData(top + "/no"),
                    Op.getChildren(top + "/no"),
                    Op.getData(top + "/private"),
                    Op.getChildren(top + "/private"),
                    Op.getChildren(top + "/a"),
                    Op.getData(top + "/a")));
            same(8, results.size());
            same(new TreeSet<>(List.of("a", "b", "private")),
                    new TreeSet<>(((OpResult.GetChildrenResult) results.get(0)).getChildren()));
            OpResult.GetDataResult data = (OpResult.GetDataResult) results.get(1);
            same("data", text(data.getData()));
            same(zk.exists(top, false), data.getStat());
            same(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
            same(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(3)).getErr());
            same(Code.NOAUTH.intValue(), ((OpResult.ErrorResult) results.get(4)).getErr());
            same(Code.NOAUTH.intValue(), ((OpResult.ErrorResult) results.get(5)).getErr());
            same(List.of(), ((OpResult.GetChildrenResult) results.get(6)).getChildren());
            same(0, ((OpResult.GetDataResult) results.get(7)).getData().length);
        }
    }
}
