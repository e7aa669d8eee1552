// Naming: services register where they are reached, and clients ask for them by name; a service that goes takes its
// entry with it. And names that nobody else has: numbers from a sequence.
//
//   CP=$(clients/curator/run --provision)
//   java -cp "$CP" examples/java/Naming.java 127.0.0.1:2181

import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;

public class Naming {
    static final String TOP = "/examples/java/naming";

    public static void main(String[] args) throws Exception {
        String servers = 0 < args.length ? args[0] : "127.0.0.1:2181";
        try (CuratorFramework client = connect(servers)) {
            client.delete().quietly().deletingChildrenIfNeeded().forPath(TOP);
            services(servers, client);
            uniqueNames(client);
        }
        System.out.println("naming: done");
    }

    static void services(String servers, CuratorFramework client) throws Exception {
        try (ServiceDiscovery<Void> names = names(client)) {
            CuratorFramework first = serve(servers, 8081);
            CuratorFramework second = serve(servers, 8082);
            for (ServiceInstance<Void> found : names.queryForInstances("shop")) {
                System.out.println("shop is at " + found.getAddress() + ":" + found.getPort());
            }
            check(names.queryForInstances("shop").size() == 2, "both are registered");
            // The entry is an ephemeral znode: it ends with the session of the service.
            first.close();
            check(names.queryForInstances("shop").size() == 1, "a closed service is still named");
            int port = names.queryForInstances("shop").iterator().next().getPort();
            check(port == 8082, "the other one is named, at " + port);
            second.close();
        }
    }

    /** One service: a client of its own, registered under its name. */
    static CuratorFramework serve(String servers, int port) throws Exception {
        CuratorFramework client = connect(servers);
        names(client).registerService(
                ServiceInstance.<Void>builder().name("shop").address("127.0.0.1").port(port).build());
        return client;
    }

    static ServiceDiscovery<Void> names(CuratorFramework client) throws Exception {
        ServiceDiscovery<Void> names =
                ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath(TOP + "/services").build();
        names.start();
        return names;
    }

    /** The parent counts: of any number of clients, each gets the next number. */
    static void uniqueNames(CuratorFramework client) throws Exception {
        TreeSet<String> given = new TreeSet<>();
        for (int i = 0; i < 5; i++) {
            String path = client.create().creatingParentsIfNeeded()
                    .withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath(TOP + "/numbers/job-");
            given.add(path.substring(path.lastIndexOf('/') + 1));
        }
        System.out.println("unique names: " + given);
        check(given.size() == 5 && given.first().equals("job-0000000000"), "names that were given twice");
    }

    static CuratorFramework connect(String servers) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(servers, new ExponentialBackoffRetry(100, 8));
        client.start();
        check(client.blockUntilConnected(30, TimeUnit.SECONDS), "no connection to " + servers);
        return client;
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
