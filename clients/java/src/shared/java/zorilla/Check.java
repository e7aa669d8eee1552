package zorilla;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;

/** The few words in which scenarios say what they expect. */
final class Check {
    interface Call {
        void run() throws Exception;
    }

    /** Of longer lists only the first difference is shown. */
    private static final int LIST_SHOWN_MAX = 20;

    private Check() {
    }

    static void same(Object expected, Object found) {
        if (expected instanceof List<?> wanted && found instanceof List<?> got && LIST_SHOWN_MAX < wanted.size()) {
            int at = 0;
            while (at < wanted.size() && at < got.size() && Objects.equals(wanted.get(at), got.get(at))) {
                at++;
            }
            yes(at == wanted.size() && at == got.size(), "expected " + wanted.size() + " of which " + at + " is "
                    + (at < wanted.size() ? wanted.get(at) : "the end") + ", found " + got.size() + ", there "
                    + (at < got.size() ? got.get(at) : "the end"));
            return;
        }
        yes(Objects.equals(expected, found), "expected " + expected + ", found " + found);
    }

    static void yes(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void fails(Code expected, Call call) throws Exception {
        try {
            call.run();
        } catch (KeeperException error) {
            same(expected, error.code());
            return;
        }
        throw new AssertionError("expected " + expected + ", it succeeded");
    }

    /** Waits until it holds. For what the server does in its own time, or a client in its own threads. */
    static void soon(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Client.SECONDS_MAX);
        while (!holds.call()) {
            yes(System.nanoTime() < deadline, "not within " + Client.SECONDS_MAX + " s: " + what);
            Thread.sleep(10);
        }
    }

    static void create(ZooKeeper zk, String path) throws Exception {
        zk.create(path, new byte[0], Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    static String text(byte[] data) {
        return data == null ? null : new String(data, UTF_8);
    }
}
