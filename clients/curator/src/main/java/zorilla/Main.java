package zorilla;

/** The scenarios of Curator's recipes. */
public final class Main {
    private Main() {
    }

    public static void main(String[] wanted) throws Exception {
        Suite suite = new Suite("curator");
        Framework.addTo(suite);
        LostConnections.addTo(suite);
        Locks.addTo(suite);
        Semaphores.addTo(suite);
        Leaders.addTo(suite);
        Barriers.addTo(suite);
        Queues.addTo(suite);
        Caches.addTo(suite);
        Counters.addTo(suite);
        Nodes.addTo(suite);
        Discovery.addTo(suite);
        Async.addTo(suite);
        Reaped.addTo(suite);
        suite.run(wanted);
    }
}
