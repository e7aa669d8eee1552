//! Sessions: granted, resumed, expired, and carried over the death of the server.

use std::time::Duration;

use tokio::time::sleep;
use zookeeper_client::{Acls, CreateMode, Error, SessionState};

use crate::server::{SESSION, Server, TICK, connector};
use crate::writes::{EPHEMERAL, exists, make};
use crate::{eventually, scenarios, soon};

scenarios!("sessions": timeouts_are_negotiated, survives_a_killed_server, resumed_by_another_client,
    a_closed_one_cannot_be_resumed, expires_and_takes_its_ephemerals, pings_keep_an_idle_one,
    authentication_survives_a_restart, sync_then_read_is_fresh);

async fn timeouts_are_negotiated(server: Server) {
    assert_eq!(server.client().await.session_timeout(), SESSION);
    let hasty = server.client_by(connector().with_session_timeout(Duration::from_millis(20))).await;
    assert_eq!(hasty.session_timeout(), 2 * TICK);
    let patient = server.client_by(connector().with_session_timeout(Duration::from_secs(3600))).await;
    assert_eq!(patient.session_timeout(), 20 * TICK);
}

async fn survives_a_killed_server(mut server: Server) {
    let client = server.client().await;
    let mut states = client.state_watcher();
    make(&client, "/a").await;
    client.create("/e", b"", EPHEMERAL).await.expect("create");
    let id = client.session_id();
    server.restart().await;
    while soon("connected again", states.changed()).await != SessionState::SyncConnected {}
    assert_eq!(client.session_id(), id);
    assert!(exists(&client, "/a").await);
    let stat = client.check_stat("/e").await.expect("stat").expect("it is there");
    assert_eq!(stat.ephemeral_owner, id.0);
}

async fn resumed_by_another_client(server: Server) {
    let first = server.client_by(connector().with_detached()).await;
    first.create("/e", b"", EPHEMERAL).await.expect("create");
    let session = first.into_session();
    let id = session.id();
    let heir = server.client_by(connector().with_session(session)).await;
    assert_eq!(heir.session_id(), id);
    assert!(exists(&heir, "/e").await);
    let other = server.client().await;
    let (_, gone) = other.check_and_watch_stat("/e").await.expect("watch");
    drop(heir);
    assert_eq!(soon("the session ends", gone.changed()).await.path, "/e");
}

async fn a_closed_one_cannot_be_resumed(server: Server) {
    let client = server.client().await;
    client.create("/e", b"", EPHEMERAL).await.expect("create");
    let session = client.session().clone();
    drop(client);
    // Its end is sent by a task of the client; what it owned tells that it has arrived.
    let other = server.client().await;
    eventually("the session ends", || async { !exists(&other, "/e").await }).await;
    let late = connector().with_session(session).connect(&server.hosts("")).await;
    assert_eq!(late.err(), Some(Error::SessionExpired));
}

async fn expires_and_takes_its_ephemerals(server: Server) {
    let owner = server.client_by(connector().with_session_timeout(2 * TICK).with_detached()).await;
    owner.create("/e", b"", EPHEMERAL).await.expect("create");
    let session = owner.into_session();
    let other = server.client().await;
    let (_, gone) = other.check_and_watch_stat("/e").await.expect("watch");
    assert_eq!(soon("the session expires", gone.changed()).await.path, "/e");
    let late = connector().with_session(session).connect(&server.hosts("")).await;
    assert_eq!(late.err(), Some(Error::SessionExpired));
}

async fn pings_keep_an_idle_one(server: Server) {
    let client = server.client_by(connector().with_session_timeout(2 * TICK)).await;
    client.create("/e", b"", EPHEMERAL).await.expect("create");
    sleep(6 * TICK).await;
    assert!(exists(&client, "/e").await);
}

async fn authentication_survives_a_restart(mut server: Server) {
    let client = server.client_by(connector().with_auth("digest", b"user:secret")).await;
    let mut states = client.state_watcher();
    client.create("/mine", b"x", &CreateMode::Persistent.with_acls(Acls::creator_all())).await.expect("create");
    server.restart().await;
    while soon("connected again", states.changed()).await != SessionState::SyncConnected {}
    assert_eq!(client.get_data("/mine").await.expect("get").0, b"x");
}

async fn sync_then_read_is_fresh(server: Server) {
    let (writer, reader) = (server.client().await, server.client().await);
    make(&writer, "/a").await;
    for version in 1..=200 {
        writer.set_data("/a", b"x", None).await.expect("set");
        let synced = reader.sync("/a");
        let read = reader.get_data("/a");
        synced.await.expect("sync");
        assert_eq!(read.await.expect("get").1.version, version);
    }
}
