package zorilla;

import static zorilla.Check.same;
import static zorilla.Check.soon;
import static zorilla.Check.yes;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeSet;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;

/** Services that register themselves, and clients that find them. */
final class Discovery {
    private Discovery() {
    }

    static void addTo(Suite suite) {
        suite.on();
        suite.add("services are found while they are there", Discovery::found);
        suite.add("a service registers again after its session was lost", Discovery::lostSession);
    }

    private static ServiceDiscovery<Void> discovery(CuratorFramework client, String top) throws Exception {
        ServiceDiscovery<Void> discovery =
                ServiceDiscoveryBuilder.builder(Void.class).client(client).basePath(top).build();
        discovery.start();
        return discovery;
    }

    private static ServiceInstance<Void> instance(int port) throws Exception {
        return ServiceInstance.<Void>builder().name("web").id("web-" + port).address("127.0.0.1").port(port).build();
    }

    private static void found(Server server, String top) throws Exception {
        List<CuratorFramework> clients = new ArrayList<>();
        try (CuratorFramework client = Curators.open(server); ServiceDiscovery<Void> reader = discovery(client, top)) {
            ServiceCache<Void> cache = reader.serviceCacheBuilder().name("web").build();
            cache.start();
            ServiceProvider<Void> provider = reader.serviceProviderBuilder().serviceName("web").build();
            provider.start();
            List<ServiceDiscovery<Void>> services = new ArrayList<>();
            for (int port = 1; port <= 3; port++) {
                CuratorFramework own = Curators.open(server);
                clients.add(own);
                ServiceDiscovery<Void> service = discovery(own, top);
                service.registerService(instance(port));
                services.add(service);
            }
            same(3, reader.queryForInstances("web").size());
            same(List.of("web"), new ArrayList<>(reader.queryForNames()));
            same(2, reader.queryForInstance("web", "web-2").getPort());
            soon("the cache has all", () -> cache.getInstances().size() == 3);
            soon("the provider has all", () -> provider.getAllInstances().size() == 3);
            TreeSet<Integer> used = new TreeSet<>();
            for (int i = 0; i < 3; i++) {
                used.add(provider.getInstance().getPort());
            }
            same(new TreeSet<>(List.of(1, 2, 3)), used);
            services.get(0).unregisterService(instance(1));
            clients.get(1).close();
            soon("one is left", () -> cache.getInstances().size() == 1 && provider.getAllInstances().size() == 1);
            same(3, provider.getInstance().getPort());
            provider.close();
            cache.close();
        } finally {
            for (CuratorFramework client : clients) {
                client.close();
            }
        }
    }

    private static void lostSession(Server server, String top) throws Exception {
        try (CuratorFramework client = Curators.open(server); ServiceDiscovery<Void> reader = discovery(client, top);
                Link link = new Link(server); CuratorFramework dying = Curators.open(link, Curators.SHORT_SESSION_MS);
                ServiceDiscovery<Void> service = discovery(dying, top)) {
            service.registerService(instance(1));
            yes(reader.queryForInstance("web", "web-1") != null, "it is there");
            link.cut();
            soon("it is gone", () -> reader.queryForInstance("web", "web-1") == null);
            link.restore();
            soon("it is back", () -> reader.queryForInstance("web", "web-1") != null);
        }
    }
}
