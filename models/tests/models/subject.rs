//! The server's source and its mutants behind one set of verbs, so that one scenario runs with each.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};

/// An eventfd in an epoll.
#[derive(Clone)]
pub struct EventFd(Arc<(Mutex<bool>, Condvar)>);

impl EventFd {
    pub fn new() -> EventFd {
        EventFd(Arc::new((Mutex::new(false), Condvar::new())))
    }

    pub fn ring(&self) {
        let (rung, changed) = &*self.0;
        *rung.lock().unwrap() = true;
        changed.notify_one();
    }

    /// Waits for a ring; without `sleep` it only takes note, as a poll with a timeout of zero does. Either way rings so
    /// far are used up.
    pub fn wait(&self, sleep: bool) {
        let (rung, changed) = &*self.0;
        let mut rung = rung.lock().unwrap();
        while sleep && !*rung {
            rung = changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

/// What a scenario does with `wake` and `mailbox`.
pub trait Subject: 'static {
    type Sleeper: Clone + Send + Sync;
    type Mailbox: Send + Sync;
    type PostBox: Send + Sync;
    type Post;

    fn sleeper(bell: &EventFd) -> Self::Sleeper;
    fn fall_asleep(sleeper: &Self::Sleeper, idle: impl FnOnce() -> bool) -> bool;
    fn awake(sleeper: &Self::Sleeper);
    fn wake(sleeper: &Self::Sleeper);
    fn ring(sleeper: &Self::Sleeper);

    fn mailbox(sleeper: &Self::Sleeper) -> Arc<Self::Mailbox>;
    fn has_room(mailbox: &Self::Mailbox) -> bool;
    /// Pushes a slice up to this zxid, with so many bytes, that completes these requests.
    fn deliver(mailbox: &Self::Mailbox, zxid: u64, bytes: usize, completed: &[u32]);
    fn has_delivery(mailbox: &Self::Mailbox) -> bool;
    /// Takes a slice and gives its box back: its zxid, what it completes, whether the replica waits for room.
    fn take(mailbox: &Self::Mailbox) -> Option<(u64, Vec<u32>, bool)>;

    fn postbox() -> Arc<Self::PostBox>;
    fn blank(postbox: &Self::PostBox) -> Box<Self::Post>;
    fn ask(post: &mut Self::Post, request: u32, bytes: usize);
    fn requests(post: &Self::Post) -> Vec<u32>;
    fn push(postbox: &Self::PostBox, post: Box<Self::Post>) -> Result<(), Box<Self::Post>>;
    fn shelve(postbox: &Self::PostBox, post: Box<Self::Post>);
    fn pop(postbox: &Self::PostBox) -> Option<Box<Self::Post>>;
    fn give_back(postbox: &Self::PostBox, post: Box<Self::Post>);
    fn has_post(postbox: &Self::PostBox) -> bool;
    fn takes_post(postbox: &Self::PostBox) -> bool;
    fn bytes(postbox: &Self::PostBox) -> usize;
}

/// `subject!(Name, path)`: the modules `wake` and `mailbox` below `path`, as a [`Subject`].
macro_rules! subject {
    ($name:ident, $($path:ident)::+) => {
        pub struct $name;

        const _: () = {
            use zorilla_proto::ids::{SessionId, Zxid};
            use $($path)::+::watch::ConnId;
            use $($path)::+::{mailbox, wake};

            struct Bell(EventFd);

            impl wake::Bell for Bell {
                fn ring(&self) {
                    self.0.ring();
                }
            }

            impl Subject for $name {
                type Sleeper = wake::Sleeper;
                type Mailbox = mailbox::Mailbox;
                type PostBox = mailbox::PostBox;
                type Post = mailbox::Post;

                fn sleeper(bell: &EventFd) -> wake::Sleeper {
                    wake::Sleeper::new(Arc::new(Bell(bell.clone())))
                }
                fn fall_asleep(sleeper: &wake::Sleeper, idle: impl FnOnce() -> bool) -> bool {
                    sleeper.fall_asleep(idle)
                }
                fn awake(sleeper: &wake::Sleeper) {
                    sleeper.awake();
                }
                fn wake(sleeper: &wake::Sleeper) {
                    sleeper.wake();
                }
                fn ring(sleeper: &wake::Sleeper) {
                    sleeper.ring();
                }

                fn mailbox(sleeper: &wake::Sleeper) -> Arc<mailbox::Mailbox> {
                    mailbox::Mailbox::new(sleeper.clone(), Zxid::ZERO, 0)
                }
                fn has_room(mailbox: &mailbox::Mailbox) -> bool {
                    mailbox.has_room()
                }
                fn deliver(mailbox: &mailbox::Mailbox, zxid: u64, bytes: usize, completed: &[u32]) {
                    let mut delivery = mailbox.blank();
                    assert!(delivery.items.is_empty() && delivery.bytes.is_empty(), "a blank box is empty");
                    delivery.applied = Zxid::from_raw(zxid);
                    delivery.bytes.resize(bytes, 0);
                    let dropped = |number: &u32| mailbox::Item::Dropped { conn: ConnId(*number) };
                    delivery.items.extend(completed.iter().map(dropped));
                    mailbox.push(delivery);
                }
                fn has_delivery(mailbox: &mailbox::Mailbox) -> bool {
                    !mailbox.is_empty()
                }
                fn take(mailbox: &mailbox::Mailbox) -> Option<(u64, Vec<u32>, bool)> {
                    let delivery = mailbox.pop()?;
                    let zxid = delivery.applied.raw();
                    let number = |item: &mailbox::Item| match item {
                        mailbox::Item::Dropped { conn } => conn.0,
                        other => panic!("{other:?} was never delivered"),
                    };
                    let completed = delivery.items.iter().map(number).collect();
                    Some((zxid, completed, mailbox.give_back(delivery)))
                }

                fn postbox() -> Arc<mailbox::PostBox> {
                    mailbox::PostBox::new()
                }
                fn blank(postbox: &mailbox::PostBox) -> Box<mailbox::Post> {
                    let post = postbox.blank();
                    assert!(post.is_empty() && post.bytes.is_empty() && post.taken == 0, "a blank post is empty");
                    post
                }
                fn ask(post: &mut mailbox::Post, request: u32, bytes: usize) {
                    let body = mailbox::Piece::push(&mut post.bytes, &vec![0; bytes]);
                    post.requests.push(mailbox::Posted {
                        conn: ConnId(request),
                        session: SessionId::NONE,
                        attachment: 0,
                        xid: 0,
                        ask: mailbox::Ask::Close,
                        body,
                    });
                }
                fn requests(post: &mailbox::Post) -> Vec<u32> {
                    post.requests.iter().map(|posted| posted.conn.0).collect()
                }
                fn push(postbox: &mailbox::PostBox, post: Box<mailbox::Post>) -> Result<(), Box<mailbox::Post>> {
                    postbox.push(post)
                }
                fn shelve(postbox: &mailbox::PostBox, post: Box<mailbox::Post>) {
                    postbox.shelve(post);
                }
                fn pop(postbox: &mailbox::PostBox) -> Option<Box<mailbox::Post>> {
                    postbox.pop()
                }
                fn give_back(postbox: &mailbox::PostBox, post: Box<mailbox::Post>) {
                    postbox.give_back(post);
                }
                fn has_post(postbox: &mailbox::PostBox) -> bool {
                    !postbox.is_empty()
                }
                fn takes_post(postbox: &mailbox::PostBox) -> bool {
                    postbox.has_room()
                }
                fn bytes(postbox: &mailbox::PostBox) -> usize {
                    postbox.bytes()
                }
            }
        };
    };
}

subject!(Source, zorilla_models);
subject!(NoFenceInWake, zorilla_models::mutants::no_fence_in_wake);
subject!(NoFenceBeforeTheLook, zorilla_models::mutants::no_fence_before_the_look);
subject!(LookBeforeTheAnnouncement, zorilla_models::mutants::look_before_the_announcement);
subject!(RingOnlyIfAnnounced, zorilla_models::mutants::ring_only_if_announced);
subject!(FlagAfterTheSecondLook, zorilla_models::mutants::flag_after_the_second_look);
subject!(NoSecondLook, zorilla_models::mutants::no_second_look);
subject!(NoFenceBeforeTheSecondLook, zorilla_models::mutants::no_fence_before_the_second_look);
subject!(NoFenceInGiveBack, zorilla_models::mutants::no_fence_in_give_back);
subject!(FlagNeverLookedAt, zorilla_models::mutants::flag_never_looked_at);
subject!(CountedAfterThePush, zorilla_models::mutants::counted_after_the_push);
subject!(CountKeptOfAPostHandedBack, zorilla_models::mutants::count_kept_of_a_post_handed_back);
