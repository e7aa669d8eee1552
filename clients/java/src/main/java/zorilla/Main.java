package zorilla;

import java.util.ArrayList;
import java.util.List;

/** Runs the scenarios one after the other, each in a folder of its own, and prints {@code N passed, N failed}. */
public final class Main {
    /** One scenario: gets the server and its own path, and throws if a promise is broken. */
    interface Scenario {
        void run(Server server, String top) throws Exception;
    }

    static final class Named {
        final String name;
        final Scenario scenario;

        Named(String name, Scenario scenario) {
            this.name = name;
            this.scenario = scenario;
        }
    }

    public static void main(String[] wanted) throws Exception {
        List<Named> all = new ArrayList<>();
        Scenarios.addTo(all);
        int passed = 0;
        int failed = 0;
        try (Server server = new Server()) {
            for (int i = 0; i < all.size(); i++) {
                Named named = all.get(i);
                if (0 < wanted.length && List.of(wanted).stream().noneMatch(named.name::contains)) {
                    continue;
                }
                long started = System.nanoTime();
                boolean good = true;
                try {
                    named.scenario.run(server, "/java-" + i);
                    passed++;
                } catch (Throwable broken) {
                    good = false;
                    failed++;
                    System.out.println("--- " + named.name);
                    broken.printStackTrace(System.out);
                }
                double seconds = (System.nanoTime() - started) / 1e9;
                System.out.printf("%-6s %6.2f s  %s%n", good ? "ok" : "FAILED", seconds, named.name);
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
