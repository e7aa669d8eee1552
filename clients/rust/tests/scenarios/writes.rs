//! Reading and writing znodes of every kind, transactions, and who may do what.

use std::time::Duration;

use tokio::time::sleep;
use zookeeper_client::{
    Acl, Acls, AuthId, Client, CreateMode, CreateOptions, Error, MultiReadResult, MultiWriteError, MultiWriteResult,
    Permission,
};

use crate::server::{Server, connector};
use crate::{REAPER, eventually, scenarios};

scenarios!("writes": create_read_write_delete, each_error_has_its_code, sequences_count_per_parent,
    ephemerals_go_with_their_session, ephemerals_are_listed, descendants_are_counted, containers_go_when_they_become_empty(REAPER),
    znodes_with_a_ttl_expire(REAPER), ttls_are_refused_unless_enabled, requests_take_effect_in_order, large_data,
    transactions_are_all_or_nothing, transactions_report_what_failed, reads_in_one_request, guarded_writes, chroot,
    acl_creator_only, acl_get_and_set, acl_users_are_told, acl_bad_authentication_ends_the_client,
    configuration);

pub const PERSISTENT: &CreateOptions<'static> = &CreateMode::Persistent.with_acls(Acls::anyone_all());
pub const EPHEMERAL: &CreateOptions<'static> = &CreateMode::Ephemeral.with_acls(Acls::anyone_all());

pub async fn make(client: &Client, path: &str) {
    client.create(path, b"", PERSISTENT).await.expect("it can be created");
}

pub async fn exists(client: &Client, path: &str) -> bool {
    client.check_stat(path).await.expect("it can be looked for").is_some()
}

async fn create_read_write_delete(server: Server) {
    let client = server.client().await;
    let (made, _) = client.create("/a", b"one", PERSISTENT).await.expect("create");
    assert_eq!(client.get_data("/a").await, Ok((b"one".to_vec(), made)));
    assert_eq!((made.version, made.data_length, made.ephemeral_owner), (0, 3, 0));
    let set = client.set_data("/a", b"seven", Some(0)).await.expect("set");
    assert_eq!((set.version, set.czxid), (1, made.czxid));
    assert!(made.mzxid < set.mzxid);
    make(&client, "/a/x").await;
    make(&client, "/a/y").await;
    let (mut names, stat) = client.get_children("/a").await.expect("children");
    names.sort();
    assert_eq!((names, stat.num_children, stat.cversion), (vec!["x".to_owned(), "y".to_owned()], 2, 2));
    client.delete("/a/x", None).await.expect("delete");
    client.delete("/a/y", Some(0)).await.expect("delete");
    client.delete("/a", Some(1)).await.expect("delete");
    assert_eq!(client.check_stat("/a").await, Ok(None));
}

async fn each_error_has_its_code(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    make(&client, "/a/b").await;
    client.create("/e", b"", EPHEMERAL).await.expect("create");
    assert_eq!(client.create("/a", b"", PERSISTENT).await, Err(Error::NodeExists));
    assert_eq!(client.create("/no/b", b"", PERSISTENT).await, Err(Error::NoNode));
    assert_eq!(client.create("/e/x", b"", PERSISTENT).await, Err(Error::NoChildrenForEphemerals));
    assert_eq!(client.set_data("/a", b"", Some(7)).await, Err(Error::BadVersion));
    assert_eq!(client.set_data("/no", b"", None).await, Err(Error::NoNode));
    assert_eq!(client.delete("/a/b", Some(7)).await, Err(Error::BadVersion));
    assert_eq!(client.delete("/a", None).await, Err(Error::NotEmpty));
    assert_eq!(client.delete("/no", None).await, Err(Error::NoNode));
    assert_eq!(client.get_data("/no").await, Err(Error::NoNode));
    assert_eq!(client.list_children("/no").await, Err(Error::NoNode));
    assert_eq!(client.get_acl("/no").await, Err(Error::NoNode));
}

async fn sequences_count_per_parent(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    let lasting = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let fleeting = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    for expected in 0..10 {
        let options = if expected % 2 == 0 { &lasting } else { &fleeting };
        let (_, sequence) = client.create("/a/n-", b"", options).await.expect("create");
        assert_eq!(sequence.into_i64(), expected);
    }
    client.delete("/a/n-0000000009", None).await.expect("delete");
    let (_, sequence) = client.create("/a/m-", b"", &lasting).await.expect("create");
    assert_eq!(sequence.to_string(), "0000000010");
}

async fn ephemerals_go_with_their_session(server: Server) {
    let (owner, other) = (server.client().await, server.client().await);
    let (stat, _) = owner.create("/e", b"", EPHEMERAL).await.expect("create");
    assert_eq!(stat.ephemeral_owner, owner.session_id().0);
    let (_, watcher) = other.check_and_watch_stat("/e").await.expect("watch");
    // The last clone of a client ends its session.
    drop(owner);
    assert_eq!(watcher.changed().await.path, "/e");
    assert!(!exists(&other, "/e").await);
}

async fn ephemerals_are_listed(server: Server) {
    let (one, other) = (server.client().await, server.client().await);
    make(&one, "/a").await;
    make(&one, "/b").await;
    for path in ["/a/x", "/a/y", "/b/x"] {
        one.create(path, b"", EPHEMERAL).await.expect("create");
    }
    other.create("/a/theirs", b"", EPHEMERAL).await.expect("create");
    let mut all = one.list_ephemerals("/").await.expect("list");
    all.sort();
    assert_eq!(all, ["/a/x", "/a/y", "/b/x"]);
    let mut below = one.list_ephemerals("/a").await.expect("list");
    below.sort();
    assert_eq!(below, ["/a/x", "/a/y"]);
    assert_eq!(other.list_ephemerals("/").await, Ok(vec!["/a/theirs".to_owned()]));
    assert_eq!(other.list_ephemerals("/b").await, Ok(vec![]));
}

async fn descendants_are_counted(server: Server) {
    let client = server.client().await;
    client.mkdir("/a/b/c/d", PERSISTENT).await.expect("mkdir");
    make(&client, "/a/x").await;
    make(&client, "/ab").await;
    assert_eq!(client.count_descendants_number("/a").await, Ok(4));
    assert_eq!(client.count_descendants_number("/ab").await, Ok(0));
    assert_eq!(client.count_descendants_number("/no").await, Err(Error::NoNode));
}

async fn containers_go_when_they_become_empty(server: Server) {
    let client = server.client().await;
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    client.create("/used", b"", &container).await.expect("create");
    client.create("/fresh", b"", &container).await.expect("create");
    make(&client, "/used/child").await;
    sleep(Duration::from_millis(700)).await;
    assert!(exists(&client, "/used").await);
    client.delete("/used/child", None).await.expect("delete");
    eventually("an emptied container is removed", || async { !exists(&client, "/used").await }).await;
    assert!(exists(&client, "/fresh").await);
}

async fn znodes_with_a_ttl_expire(server: Server) {
    let client = server.client().await;
    let short = PERSISTENT.clone().with_ttl(Duration::from_millis(300));
    let long = PERSISTENT.clone().with_ttl(Duration::from_secs(60));
    let counted = CreateMode::PersistentSequential.with_acls(Acls::anyone_all()).with_ttl(Duration::from_millis(300));
    client.create("/short", b"", &short).await.expect("create");
    client.create("/long", b"", &long).await.expect("create");
    let (_, sequence) = client.create("/n-", b"", &counted).await.expect("create");
    eventually("it expires", || async { !exists(&client, "/short").await }).await;
    let path = format!("/n-{sequence}");
    eventually("the sequential one expires", || async { !exists(&client, &path).await }).await;
    assert!(exists(&client, "/long").await);
}

async fn ttls_are_refused_unless_enabled(server: Server) {
    let client = server.client().await;
    let short = PERSISTENT.clone().with_ttl(Duration::from_millis(300));
    assert_eq!(client.create("/short", b"", &short).await, Err(Error::Unimplemented));
    make(&client, "/a").await;
}

async fn requests_take_effect_in_order(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    // Requests are sent where the futures are made.
    let writes: Vec<_> = (0..1000).map(|i| client.set_data("/a", i.to_string().as_bytes(), Some(i))).collect();
    let read = client.get_data("/a");
    for (write, version) in writes.into_iter().zip(1..) {
        assert_eq!(write.await.expect("set").version, version);
    }
    assert_eq!(read.await.expect("get").0, b"999");
}

async fn large_data(server: Server) {
    let client = server.client().await;
    let data: Vec<u8> = (0..1_000_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    client.create("/big", &data, PERSISTENT).await.expect("create");
    assert!(client.get_data("/big").await.expect("get").0 == data);
}

async fn transactions_are_all_or_nothing(server: Server) {
    let client = server.client().await;
    let mut writer = client.new_multi_writer();
    let counted = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    writer.add_create("/a", b"x", PERSISTENT).expect("add");
    writer.add_create("/a/n-", b"", &counted).expect("add");
    writer.add_set_data("/a", b"y", Some(0)).expect("add");
    writer.add_check_version("/a", 1).expect("add");
    writer.add_delete("/a/n-0000000000", None).expect("add");
    let results = writer.commit().await.expect("commit");
    assert_eq!(results.len(), 5);
    let MultiWriteResult::Create { path, stat: made } = &results[0] else { panic!("{results:?}") };
    assert_eq!(path, "/a");
    assert!(matches!(&results[1], MultiWriteResult::Create { path, .. } if path == "/a/n-0000000000"), "{results:?}");
    let MultiWriteResult::SetData { stat } = &results[2] else { panic!("{results:?}") };
    assert_eq!((stat.version, stat.czxid, stat.mzxid), (1, made.czxid, made.czxid));
    assert_eq!(results[3..], [MultiWriteResult::Check, MultiWriteResult::Delete]);
    assert_eq!(client.get_data("/a").await.expect("get").0, b"y");
}

async fn transactions_report_what_failed(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    for (expected, fill) in [(Error::BadVersion, 0), (Error::NodeExists, 1), (Error::NoNode, 2), (Error::BadVersion, 3)]
    {
        let mut writer = client.new_multi_writer();
        writer.add_create("/b", b"", PERSISTENT).expect("add");
        match fill {
            0 => writer.add_check_version("/a", 7),
            1 => writer.add_create("/a", b"", PERSISTENT),
            2 => writer.add_delete("/no", None),
            _ => writer.add_set_data("/a", b"", Some(7)),
        }
        .expect("add");
        writer.add_delete("/a", None).expect("add");
        let failed = MultiWriteError::OperationFailed { index: 1, source: expected };
        assert_eq!(writer.commit().await, Err(failed));
        assert!(!exists(&client, "/b").await && exists(&client, "/a").await);
    }
}

async fn reads_in_one_request(server: Server) {
    let client = server.client().await;
    client.create("/a", b"x", PERSISTENT).await.expect("create");
    make(&client, "/a/b").await;
    let mut reader = client.new_multi_reader();
    reader.add_get_data("/a").expect("add");
    reader.add_get_children("/a").expect("add");
    reader.add_get_data("/no").expect("add");
    reader.add_get_data("/a/b").expect("add");
    let results = reader.commit().await.expect("commit");
    assert_eq!(results.len(), 4);
    assert!(matches!(&results[0], MultiReadResult::Data { data, stat } if data == b"x" && stat.num_children == 1));
    assert!(matches!(&results[1], MultiReadResult::Children { children } if children == &["b"]));
    assert!(matches!(&results[2], MultiReadResult::Error { err: Error::NoNode }), "{:?}", results[2]);
    assert!(matches!(&results[3], MultiReadResult::Data { data, .. } if data.is_empty()));
}

async fn guarded_writes(server: Server) {
    let client = server.client().await;
    make(&client, "/guard").await;
    let mut writer = client.new_check_writer("/guard", Some(0)).expect("a writer");
    writer.add_create("/a", b"", PERSISTENT).expect("add");
    assert!(writer.commit().await.is_ok());
    client.set_data("/guard", b"", None).await.expect("set");
    let mut writer = client.new_check_writer("/guard", Some(0)).expect("a writer");
    writer.add_create("/b", b"", PERSISTENT).expect("add");
    assert!(writer.commit().await.is_err());
    assert!(!exists(&client, "/b").await);
}

async fn chroot(server: Server) {
    let whole = server.client().await;
    make(&whole, "/app").await;
    let inside = connector().connect(&server.hosts("/app")).await.expect("connect");
    make(&inside, "/a").await;
    inside.create("/e", b"", EPHEMERAL).await.expect("create");
    assert!(exists(&whole, "/app/a").await);
    assert_eq!(inside.list_ephemerals("/").await, Ok(vec!["/e".to_owned()]));
    let (_, watcher) = inside.list_and_watch_children("/").await.expect("watch");
    make(&whole, "/app/b").await;
    assert_eq!(watcher.changed().await.path, "/");
    let mut names = inside.list_children("/").await.expect("list");
    names.sort();
    assert_eq!(names, ["a", "b", "e"]);
}

async fn acl_creator_only(server: Server) {
    let (owner, other) = (server.client().await, server.client().await);
    let mine = CreateMode::Persistent.with_acls(Acls::creator_all());
    assert_eq!(owner.create("/mine", b"", &mine).await, Err(Error::InvalidAcl));
    owner.auth("digest", b"user:secret").await.expect("authenticated");
    owner.create("/mine", b"x", &mine).await.expect("create");
    assert_eq!(other.get_data("/mine").await, Err(Error::NoAuth));
    assert_eq!(other.set_data("/mine", b"", None).await, Err(Error::NoAuth));
    assert_eq!(other.list_children("/mine").await, Err(Error::NoAuth));
    assert_eq!(other.create("/mine/x", b"", PERSISTENT).await, Err(Error::NoAuth));
    assert_eq!(other.check_stat("/mine").await, Err(Error::NoAuth));
    assert_eq!(other.count_descendants_number("/mine").await, Err(Error::NoAuth));
    let mut reader = other.new_multi_reader();
    reader.add_get_data("/mine").expect("add");
    let results = reader.commit().await.expect("commit");
    assert!(matches!(&results[0], MultiReadResult::Error { err: Error::NoAuth }), "{results:?}");
    other.auth("digest", b"user:secret").await.expect("authenticated");
    assert_eq!(other.get_data("/mine").await.expect("get").0, b"x");
}

async fn acl_get_and_set(server: Server) {
    let client = server.client().await;
    make(&client, "/a").await;
    let (acls, stat) = client.get_acl("/a").await.expect("get");
    assert_eq!((acls.as_slice(), stat.aversion), (&*Acls::anyone_all(), 0));
    let read_only = [Acl::new(Permission::READ, AuthId::new("ip", "127.0.0.1"))];
    assert_eq!(client.set_acl("/a", &read_only, Some(7)).await, Err(Error::BadVersion));
    let stat = client.set_acl("/a", &read_only, Some(0)).await.expect("set");
    assert_eq!(stat.aversion, 1);
    assert_eq!(client.get_acl("/a").await.expect("get").0, read_only);
    assert_eq!(client.set_data("/a", b"", None).await, Err(Error::NoAuth));
    let unknown = [Acl::new(Permission::ALL, AuthId::new("nonesuch", "x"))];
    let options = CreateMode::Persistent.with_acls(Acls::new(&unknown));
    assert_eq!(client.create("/x", b"", &options).await, Err(Error::InvalidAcl));
}

async fn acl_users_are_told(server: Server) {
    let client = server.client().await;
    let before = client.list_auth_users().await.expect("list");
    assert!(before.iter().any(|user| (user.scheme(), user.user()) == ("ip", "127.0.0.1")), "{before:?}");
    client.auth("digest", b"user:secret").await.expect("authenticated");
    let after = client.list_auth_users().await.expect("list");
    assert!(after.iter().any(|user| (user.scheme(), user.user()) == ("digest", "user")), "{after:?}");
}

async fn acl_bad_authentication_ends_the_client(server: Server) {
    let client = server.client().await;
    assert_eq!(client.auth("nonesuch", b"x").await, Err(Error::AuthFailed));
    assert_eq!(client.check_stat("/").await, Err(Error::AuthFailed));
    let refused = connector().with_auth("nonesuch", b"x").connect(&server.hosts("")).await;
    assert_eq!(refused.err(), Some(Error::AuthFailed));
}

async fn configuration(server: Server) {
    let client = server.client().await;
    let (data, _) = client.get_config().await.expect("get");
    assert_eq!(data, b"");
}
