//! Watches that fire once, and those that stay.

use zookeeper_client::{AddWatchMode, EventType, PersistentWatcher, SessionState, WatchedEvent};

use crate::server::Server;
use crate::writes::{PERSISTENT, make};
use crate::{scenarios, soon};

scenarios!("watches": once, once_each_for_those_who_asked, once_set_again_after_a_restart, persistent, recursive,
    both_kinds_on_one_path, dropped_watchers_are_removed, persistent_ones_are_told_of_a_restart, events_carry_the_zxid);

fn check(event: &WatchedEvent, kind: EventType, path: &str) {
    assert_eq!((event.event_type, event.path.as_str()), (kind, path));
}

async fn next(watcher: &mut PersistentWatcher) -> WatchedEvent {
    soon("an event", watcher.changed()).await
}

async fn once(server: Server) {
    let (client, writer) = (server.client().await, server.client().await);
    let (_, created) = client.check_and_watch_stat("/a").await.expect("watch");
    make(&writer, "/a").await;
    check(&soon("created", created.changed()).await, EventType::NodeCreated, "/a");
    let (_, _, changed) = client.get_and_watch_data("/a").await.expect("watch");
    let (_, children) = client.list_and_watch_children("/a").await.expect("watch");
    make(&writer, "/a/b").await;
    check(&soon("children", children.changed()).await, EventType::NodeChildrenChanged, "/a");
    writer.set_data("/a", b"x", None).await.expect("set");
    check(&soon("changed", changed.changed()).await, EventType::NodeDataChanged, "/a");
    let (_, deleted) = client.check_and_watch_stat("/a/b").await.expect("watch");
    let (_, _, children) = client.get_and_watch_children("/a/b").await.expect("watch");
    writer.delete("/a/b", None).await.expect("delete");
    check(&soon("deleted", deleted.changed()).await, EventType::NodeDeleted, "/a/b");
    check(&soon("deleted", children.changed()).await, EventType::NodeDeleted, "/a/b");
}

async fn once_each_for_those_who_asked(server: Server) {
    let writer = server.client().await;
    make(&writer, "/a").await;
    let mut watchers = Vec::new();
    for _ in 0..5 {
        let client = server.client().await;
        let (_, _, watcher) = client.get_and_watch_data("/a").await.expect("watch");
        watchers.push((client, watcher));
    }
    writer.set_data("/a", b"x", None).await.expect("set");
    for (_client, watcher) in watchers {
        check(&soon("changed", watcher.changed()).await, EventType::NodeDataChanged, "/a");
    }
}

async fn once_set_again_after_a_restart(mut server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    make(&client, "/b").await;
    let (_, _, changed) = client.get_and_watch_data("/a").await.expect("watch");
    let (_, created) = client.check_and_watch_stat("/new").await.expect("watch");
    let (_, children) = client.list_and_watch_children("/b").await.expect("watch");
    server.restart().await;
    let writer = server.client().await;
    writer.set_data("/a", b"x", None).await.expect("set");
    make(&writer, "/new").await;
    make(&writer, "/b/x").await;
    check(&soon("changed", changed.changed()).await, EventType::NodeDataChanged, "/a");
    check(&soon("created", created.changed()).await, EventType::NodeCreated, "/new");
    check(&soon("children", children.changed()).await, EventType::NodeChildrenChanged, "/b");
}

async fn persistent(server: Server) {
    let (client, writer) = (server.client().await, server.client().await);
    let mut watcher = client.watch("/a", AddWatchMode::Persistent).await.expect("watch");
    for _ in 0..3 {
        make(&writer, "/a").await;
        writer.set_data("/a", b"x", None).await.expect("set");
        make(&writer, "/a/b").await;
        // Below the children it does not look.
        writer.set_data("/a/b", b"x", None).await.expect("set");
        writer.delete("/a/b", None).await.expect("delete");
        writer.delete("/a", None).await.expect("delete");
        check(&next(&mut watcher).await, EventType::NodeCreated, "/a");
        check(&next(&mut watcher).await, EventType::NodeDataChanged, "/a");
        check(&next(&mut watcher).await, EventType::NodeChildrenChanged, "/a");
        check(&next(&mut watcher).await, EventType::NodeChildrenChanged, "/a");
        check(&next(&mut watcher).await, EventType::NodeDeleted, "/a");
    }
}

async fn recursive(server: Server) {
    let (client, writer) = (server.client().await, server.client().await);
    let mut watcher = client.watch("/a", AddWatchMode::PersistentRecursive).await.expect("watch");
    make(&writer, "/ab").await;
    for _ in 0..2 {
        writer.mkdir("/a/b/c", PERSISTENT).await.expect("mkdir");
        writer.set_data("/a/b/c", b"x", None).await.expect("set");
        writer.delete("/a/b/c", None).await.expect("delete");
        writer.delete("/a/b", None).await.expect("delete");
        writer.delete("/a", None).await.expect("delete");
        // Which children a znode has is not told; that they come and go is.
        check(&next(&mut watcher).await, EventType::NodeCreated, "/a");
        check(&next(&mut watcher).await, EventType::NodeCreated, "/a/b");
        check(&next(&mut watcher).await, EventType::NodeCreated, "/a/b/c");
        check(&next(&mut watcher).await, EventType::NodeDataChanged, "/a/b/c");
        check(&next(&mut watcher).await, EventType::NodeDeleted, "/a/b/c");
        check(&next(&mut watcher).await, EventType::NodeDeleted, "/a/b");
        check(&next(&mut watcher).await, EventType::NodeDeleted, "/a");
    }
}

async fn both_kinds_on_one_path(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    let (_, _, once) = client.get_and_watch_data("/a").await.expect("watch");
    let mut stays = client.watch("/a", AddWatchMode::Persistent).await.expect("watch");
    let mut root = client.watch("/", AddWatchMode::PersistentRecursive).await.expect("watch");
    client.set_data("/a", b"x", None).await.expect("set");
    client.set_data("/a", b"y", None).await.expect("set");
    check(&soon("changed", once.changed()).await, EventType::NodeDataChanged, "/a");
    for watcher in [&mut stays, &mut root] {
        check(&next(watcher).await, EventType::NodeDataChanged, "/a");
        check(&next(watcher).await, EventType::NodeDataChanged, "/a");
    }
}

async fn dropped_watchers_are_removed(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    let stays = client.watch("/a", AddWatchMode::Persistent).await.expect("watch");
    let (_, _, once) = client.get_and_watch_data("/a").await.expect("watch");
    drop(stays);
    drop(once);
    // A request behind the removals: were they refused, the session would say so.
    client.set_data("/a", b"x", None).await.expect("set");
    let mut again = client.watch("/a", AddWatchMode::Persistent).await.expect("watch");
    client.set_data("/a", b"y", None).await.expect("set");
    check(&next(&mut again).await, EventType::NodeDataChanged, "/a");
}

async fn persistent_ones_are_told_of_a_restart(mut server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    make(&client, "/b").await;
    let mut stays = client.watch("/a", AddWatchMode::Persistent).await.expect("watch");
    let mut tree = client.watch("/b", AddWatchMode::PersistentRecursive).await.expect("watch");
    server.restart().await;
    for watcher in [&mut stays, &mut tree] {
        assert_eq!(next(watcher).await.session_state, SessionState::Disconnected);
        assert_eq!(next(watcher).await.session_state, SessionState::SyncConnected);
    }
    // This version of the client leaves persistent watches out of the setWatches it sends (opcode 101 has no lists for
    // them), so whoever is told that it was away sets them again.
    let mut stays = client.watch("/a", AddWatchMode::Persistent).await.expect("watch");
    let mut tree = client.watch("/b", AddWatchMode::PersistentRecursive).await.expect("watch");
    let writer = server.client().await;
    make(&writer, "/a/x").await;
    make(&writer, "/b/x").await;
    check(&next(&mut stays).await, EventType::NodeChildrenChanged, "/a");
    check(&next(&mut tree).await, EventType::NodeCreated, "/b/x");
}

async fn events_carry_the_zxid(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    let (_, _, watcher) = client.get_and_watch_data("/a").await.expect("watch");
    let stat = client.set_data("/a", b"x", None).await.expect("set");
    assert_eq!(soon("changed", watcher.changed()).await.zxid, stat.mzxid);
}
