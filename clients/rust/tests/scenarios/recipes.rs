//! What people come for: locks in the three shapes this client knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use zookeeper_client::{Acls, CreateMode, Error, LockOptions, LockPrefix};

use crate::server::Server;
use crate::writes::{PERSISTENT, exists, make};
use crate::{scenarios, soon};

scenarios!("recipes": lock_passes_from_one_to_the_next, lock_is_freed_by_its_holders_end, lock_guards_writes,
    lock_makes_its_ancestors, membership);

async fn lock_passes_from_one_to_the_next(server: Server) {
    make(&server.client().await, "/locks").await;
    let (holders, entered) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let client = server.client().await;
        let (holders, entered) = (holders.clone(), entered.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..4 {
                let prefix = LockPrefix::new_curator("/locks", "lock-").expect("a prefix");
                let lock = client.lock(prefix, b"", Acls::anyone_all()).await.expect("the lock");
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                entered.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(2)).await;
                holders.fetch_sub(1, Ordering::SeqCst);
                drop(lock);
            }
        }));
    }
    for task in tasks {
        soon("every client has had its turns", task).await.expect("no client failed");
    }
    assert_eq!(entered.load(Ordering::SeqCst), 20);
}

async fn lock_is_freed_by_its_holders_end(server: Server) {
    let (holder, waiting) = (server.client().await, server.client().await);
    make(&holder, "/locks").await;
    let prefix = || LockPrefix::new_shared("/locks/n-").expect("a prefix");
    let lock = holder.lock(prefix(), b"", Acls::anyone_all()).await.expect("the lock").into_owned();
    let mut next = Box::pin(waiting.lock(prefix(), b"", Acls::anyone_all()));
    tokio::select! {
        _ = &mut next => panic!("two hold the lock"),
        () = sleep(Duration::from_millis(300)) => {}
    }
    drop(lock);
    drop(holder);
    let taken = soon("the lock is freed", next).await.expect("the lock");
    assert!(taken.lock_path().starts_with("/locks/n-"));
}

async fn lock_guards_writes(server: Server) {
    let client = server.client().await;
    make(&client, "/locks").await;
    make(&client, "/data").await;
    let prefix = LockPrefix::new_custom("/locks/x-mine-".to_owned(), "x-").expect("a prefix");
    let lock = client.lock(prefix, b"", Acls::anyone_all()).await.expect("the lock");
    lock.set_data("/data", b"guarded", None).await.expect("the holder may write");
    // Whoever lost the lock cannot write in its name.
    client.delete(lock.lock_path(), None).await.expect("delete");
    assert_eq!(lock.set_data("/data", b"stale", None).await, Err(Error::RuntimeInconsistent));
    assert_eq!(client.get_data("/data").await.expect("get").0, b"guarded");
}

async fn lock_makes_its_ancestors(server: Server) {
    let client = server.client().await;
    let prefix = || LockPrefix::new_curator("/deep/down/locks", "lock-").expect("a prefix");
    assert!(matches!(client.lock(prefix(), b"", Acls::anyone_all()).await, Err(Error::NoNode)));
    let options = LockOptions::new(Acls::anyone_all()).with_ancestor_options(PERSISTENT.clone()).expect("options");
    let lock = client.lock(prefix(), b"", options).await.expect("the lock");
    assert!(exists(&client, lock.lock_path()).await);
}

async fn membership(server: Server) {
    let observer = server.client().await;
    make(&observer, "/members").await;
    let member = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
    let mut members = Vec::new();
    for count in 1..=3 {
        let (_, joined) = observer.list_and_watch_children("/members").await.expect("watch");
        let client = server.client().await;
        client.create("/members/m-", b"here", &member).await.expect("create");
        members.push(client);
        soon("the member is seen", joined.changed()).await;
        assert_eq!(observer.list_children("/members").await.expect("list").len(), count);
    }
    let (_, left) = observer.list_and_watch_children("/members").await.expect("watch");
    drop(members.remove(0));
    soon("it is missed", left.changed()).await;
    let mut names = observer.list_children("/members").await.expect("list");
    names.sort();
    assert_eq!(names, ["m-0000000001", "m-0000000002"]);
}
