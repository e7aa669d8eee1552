package zorilla;

import java.util.ArrayList;
import java.util.List;

/**
 * Scenarios in a fixed order, each with a name and with a server of the settings it needs. Runs them one after the
 * other, each in a folder of its own, and prints {@code N passed, N failed}.
 */
final class Suite {
    /** One scenario: gets the server and its own path, and throws if a promise is broken. */
    interface Scenario {
        void run(Server server, String top) throws Exception;
    }

    private record Named(List<String> settings, String name, Scenario scenario) {
    }

    private final String prefix;
    private final List<Named> all = new ArrayList<>();
    private List<String> settings = List.of();

    /** {@code prefix} begins the paths of this suite's folders. */
    Suite(String prefix) {
        this.prefix = prefix;
    }

    /**
     * What is added from now on shares a server with these settings: {@code -Dname=value} for its command line, any
     * other one is a line of its zoo.cfg.
     */
    void on(String... these) {
        settings = List.of(these);
    }

    void add(String name, Scenario scenario) {
        all.add(new Named(settings, name, scenario));
    }

    /** Runs those whose name contains one of {@code wanted}, or all, and ends the process. */
    void run(String[] wanted) throws Exception {
        int passed = 0;
        int failed = 0;
        Server server = null;
        // The settings with which no server started: its message is worth reading once.
        List<String> broken = null;
        try {
            for (int i = 0; i < all.size(); i++) {
                Named named = all.get(i);
                if (0 < wanted.length && List.of(wanted).stream().noneMatch(named.name::contains)) {
                    continue;
                }
                long started = System.nanoTime();
                boolean good = true;
                try {
                    if (server != null && !server.settings.equals(named.settings)) {
                        server.close();
                        server = null;
                    }
                    if (server == null) {
                        Check.yes(!named.settings.equals(broken), "the server does not start, see above");
                        broken = named.settings;
                        server = new Server(named.settings);
                        broken = null;
                    }
                    named.scenario.run(server, "/" + prefix + "-" + i);
                    passed++;
                } catch (Throwable failure) {
                    good = false;
                    failed++;
                    System.out.println("--- " + named.name);
                    failure.printStackTrace(System.out);
                }
                double seconds = (System.nanoTime() - started) / 1e9;
                System.out.printf("%-6s %6.2f s  %s%n", good ? "ok" : "FAILED", seconds, named.name);
                if (server != null && !server.isAlive()) {
                    // The next scenario shall not fail for the death that this one caused, or failed to mend.
                    System.out.println(server.tail());
                    server.close();
                    server = null;
                }
            }
        } finally {
            if (server != null) {
                server.close();
            }
        }
        if (passed + failed == 0) {
            System.out.println("no scenario matches: " + String.join(" ", wanted));
            failed = 1;
        }
        System.out.println(passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
