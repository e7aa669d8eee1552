package zorilla;

/** The scenarios of the plain Java client. */
public final class Main {
    private Main() {
    }

    public static void main(String[] wanted) throws Exception {
        Suite suite = new Suite("java");
        Scenarios.addTo(suite);
        Transactions.addTo(suite);
        Watches.addTo(suite);
        Access.addTo(suite);
        Kinds.addTo(suite);
        Admin.addTo(suite);
        suite.run(wanted);
    }
}
