package zorilla;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A network between clients and the server that can be cut: while it is, a client cannot even say goodbye. It can also
 * lose the answer to one request, or one request, and break that connection, which is when a client does not know
 * whether what it asked for was done.
 */
final class Link implements AutoCloseable {
    /** Opcodes of the client protocol that {@link #lose} is told of. */
    static final int CREATE = 1;
    static final int DELETE = 2;
    static final int SET_DATA = 5;
    static final int MULTI = 14;
    static final int CREATE2 = 15;
    static final int CREATE_CONTAINER = 19;
    static final int CREATE_TTL = 21;

    /** What is lost. */
    enum Loss {
        /** The server never hears of it. */
        REQUEST,
        /** The server did it, and nobody was told. */
        REPLY
    }

    private static final int FRAME_BYTES_MAX = 8 << 20;

    private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
    private final int target;
    private final List<Socket> open = new ArrayList<>();
    private boolean isCut;
    private Loss loss;
    private int[] lossOps = {};
    private boolean cutsAfterLoss;
    private int losses;

    /** One client's connection; its first frame either way is the handshake. */
    private final class Pair {
        final Socket client;
        final Socket server;
        /** The request whose answer shall be lost, once it has been seen. */
        private Integer lostXid;

        Pair(Socket client, Socket server) {
            this.client = client;
            this.server = server;
        }

        void toServer() {
            copy(client, server, frame -> {
                synchronized (Link.this) {
                    if (loss == null || Arrays.stream(lossOps).noneMatch(op -> op == frame.getInt(4))) {
                        return true;
                    }
                    Loss what = loss;
                    loss = null;
                    losses++;
                    lostXid = frame.getInt(0);
                    isCut |= cutsAfterLoss;
                    return what == Loss.REPLY;
                }
            });
        }

        void toClient() {
            copy(server, client, frame -> {
                synchronized (Link.this) {
                    return lostXid == null || lostXid != frame.getInt(0);
                }
            });
        }
    }

    /** Says whether this frame may pass; after the first that may not, the connection ends. */
    private interface Filter {
        boolean passes(ByteBuffer frame);
    }

    Link(Server server) throws IOException {
        target = server.port;
        start(this::accept);
    }

    String hosts() {
        return "127.0.0.1:" + listener.getLocalPort();
    }

    synchronized void cut() throws IOException {
        isCut = true;
        breakAll();
    }

    synchronized void restore() {
        isCut = false;
    }

    /** Ends every connection; a client may come back at once. */
    synchronized void breakAll() throws IOException {
        for (Socket socket : open) {
            socket.close();
        }
        open.clear();
    }

    /** The next request with one of these opcodes, or the answer to it, is lost together with its connection. */
    synchronized void lose(Loss what, int... ops) {
        loss = what;
        lossOps = ops;
        cutsAfterLoss = false;
    }

    /** As {@link #lose}, and from then on nobody connects before {@link #restore}. */
    synchronized void loseAndCut(Loss what, int... ops) {
        lose(what, ops);
        cutsAfterLoss = true;
    }

    /** How often something was lost: a scenario that lost nothing has shown nothing. */
    synchronized int losses() {
        return losses;
    }

    private void accept() {
        try {
            while (true) {
                join(listener.accept());
            }
        } catch (IOException closed) {
            // The scenario is over.
        }
    }

    private synchronized void join(Socket client) throws IOException {
        if (isCut) {
            client.close();
            return;
        }
        try {
            Socket server = new Socket("127.0.0.1", target);
            server.setTcpNoDelay(true);
            client.setTcpNoDelay(true);
            open.add(client);
            open.add(server);
            Pair pair = new Pair(client, server);
            start(pair::toServer);
            start(pair::toClient);
        } catch (IOException down) {
            client.close();
        }
    }

    private static void copy(Socket from, Socket to, Filter filter) {
        try (from; to) {
            DataInputStream in = new DataInputStream(from.getInputStream());
            DataOutputStream out = new DataOutputStream(to.getOutputStream());
            for (boolean isHandshake = true;; isHandshake = false) {
                int length = in.readInt();
                if (length < 0 || FRAME_BYTES_MAX < length) {
                    return;
                }
                byte[] whole = new byte[4 + length];
                ByteBuffer.wrap(whole).putInt(length);
                in.readFully(whole, 4, length);
                ByteBuffer frame = ByteBuffer.wrap(whole, 4, length).slice();
                if (!isHandshake && 8 <= length && !filter.passes(frame)) {
                    return;
                }
                out.write(whole);
                out.flush();
            }
        } catch (IOException ended) {
            // Either side is gone; closing both tells the other.
        }
    }

    private static void start(Runnable body) {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void close() throws IOException {
        listener.close();
        cut();
    }
}
