package zorilla;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * One standalone server process, {@code $ZORILLA server [-Dname=value ...] <zoo.cfg>}, in a temporary folder. The data
 * survive {@link #start} after {@link #kill} or {@link #stop}.
 */
final class Server implements AutoCloseable {
    private static final long START_SECONDS_MAX = 30;
    private static final long STOP_SECONDS_MAX = 20;

    final int port;
    /** What this server was asked for, as {@link Suite#on} takes it. */
    final List<String> settings;
    private final Path folder;
    private final Path log;
    private Process process;

    Server(List<String> settings) throws Exception {
        this.settings = settings;
        folder = Files.createTempDirectory("zorilla-clients-");
        log = folder.resolve("server.log");
        try (ServerSocket probe = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = probe.getLocalPort();
        }
        List<String> lines = new ArrayList<>(List.of(
                "tickTime=500",
                "dataDir=" + Files.createDirectory(folder.resolve("data")),
                "clientPort=" + port,
                "clientPortAddress=127.0.0.1",
                "maxClientCnxns=0",
                "4lw.commands.whitelist=*",
                "admin.enableServer=false"));
        String extra = System.getenv("ZORILLA_CONF");
        if (extra != null) {
            lines.addAll(extra.lines().toList());
        }
        settings.stream().filter(setting -> !setting.startsWith("-D")).forEach(lines::add);
        Files.write(folder.resolve("zoo.cfg"), lines);
        // Also an interrupted run leaves no server behind.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            if (process != null) {
                process.destroyForcibly();
            }
        }));
        start();
    }

    String hosts() {
        return "127.0.0.1:" + port;
    }

    void start() throws Exception {
        List<String> command = new ArrayList<>(List.of(System.getenv("ZORILLA").trim().split("\\s+")));
        command.add("server");
        settings.stream().filter(setting -> setting.startsWith("-D")).forEach(command::add);
        command.add(folder.resolve("zoo.cfg").toString());
        process = new ProcessBuilder(command)
                .directory(folder.toFile())
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log.toFile()))
                .start();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_SECONDS_MAX);
        // `ruok` is answered before requests are: `srvr` tells who serves.
        while (!fourLetter("srvr").startsWith("Zookeeper version")) {
            if (!process.isAlive()) {
                int code = process.exitValue();
                throw new AssertionError("the server ended with " + code + " while starting:\n" + tail());
            }
            if (deadline < System.nanoTime()) {
                throw new AssertionError("not serving within " + START_SECONDS_MAX + " s:\n" + tail());
            }
            Thread.sleep(20);
        }
    }

    /** SIGKILL, as a crash of the process. */
    void kill() throws Exception {
        process.destroyForcibly();
        waitForEnd("SIGKILL");
    }

    /** SIGTERM, as an operator stops it. */
    void stop() throws Exception {
        process.destroy();
        waitForEnd("SIGTERM");
    }

    private void waitForEnd(String how) throws Exception {
        if (!process.waitFor(STOP_SECONDS_MAX, TimeUnit.SECONDS)) {
            process.destroyForcibly();
            throw new AssertionError("the server ignored " + how + ":\n" + tail());
        }
    }

    private String fourLetter(String word) {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", port), 2000);
            socket.setSoTimeout(5000);
            socket.getOutputStream().write(word.getBytes(StandardCharsets.US_ASCII));
            return new String(socket.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException notYet) {
            return "";
        }
    }

    boolean isAlive() {
        return process.isAlive();
    }

    String tail() throws IOException {
        List<String> lines = Files.readAllLines(log, StandardCharsets.ISO_8859_1);
        return String.join("\n", lines.subList(Math.max(0, lines.size() - 30), lines.size()));
    }

    @Override
    public void close() throws Exception {
        if (process.isAlive()) {
            kill();
        }
        try (Stream<Path> paths = Files.walk(folder)) {
            for (Path path : paths.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(path);
            }
        }
    }
}
