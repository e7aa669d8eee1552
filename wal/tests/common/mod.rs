//! A log on the faulty disk beside the simplest model there is: the list of what was appended.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::collections::BTreeMap;
use zorilla_proto::Zxid;
use zorilla_wal::disk::Disk;
use zorilla_wal::disk::faulty::{FaultyDisk, FaultyFiles, Image, Order};
use zorilla_wal::{Durable, Epochs, Failed, Full, OpenError, Options, Position, RecordRef, Recovered, StoreId, Wal};

pub const STORE: StoreId = StoreId(0x7a6f_7269_6c6c_6100_0000_0000_0000_0002);

pub fn zxid(raw: u64) -> Zxid {
    Zxid::from_raw(raw)
}

/// What a log holds, as far as anybody can see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Zxid, and the number that makes its payload unlike any other.
    pub txns: Vec<(u64, u64)>,
    pub epochs: Epochs,
    pub state_head: Option<(String, u64)>,
    pub last_zxid: u64,
}

impl View {
    /// What is left of it in a log that begins after `begins_after`.
    fn after(&self, begins_after: u64) -> View {
        let mut view = self.clone();
        view.txns.retain(|(zxid, _)| begins_after < *zxid);
        view
    }
}

pub fn payload(id: u64, bytes: usize) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(bytes.max(8), id.to_le_bytes()[0] ^ 0x5a);
    payload
}

/// One thing that happens to a log.
#[derive(Clone, Debug)]
pub enum Act {
    /// Appends a transaction with a payload of so many bytes.
    Txn(usize),
    /// Raises both epochs.
    Epochs,
    /// Truncates so many transactions away, as far as the state head allows.
    Truncate(usize),
    /// Records a state as of the transaction so many before the last.
    StateHead(usize),
    /// Replaces the history by a state so far behind, or ahead of, the last transaction.
    Replace(i64),
    /// Time passes and the log is polled.
    Poll(u64),
    /// The order in which writes complete from now on.
    Order(Order),
    /// Segments are prepared as far as they are wanted.
    Prepare,
    /// Segments behind the durable state head are purged.
    Purge,
    /// Everything is made durable.
    Flush,
    /// The log is sealed, and opened again.
    Seal,
    /// The process is killed; of the writes in flight, those whose bit is set reach the file. Opened again.
    Kill(u32),
}

/// Runs acts on a log and keeps the model.
pub struct Runner {
    pub wal: Option<Wal<FaultyDisk>>,
    pub files: FaultyFiles,
    pub options: Options,
    pub now_ns: u64,
    /// The view after each append. The first one is the view at the start.
    pub views: Vec<View>,
    /// What each append voided everything above; the largest number where it voided nothing.
    voids: Vec<u64>,
    /// After so many steps of the disk, so many appends were reported durable.
    pub acked: Vec<(usize, usize)>,
    /// Where the positions of this life begin.
    base: usize,
    lives: u64,
    next_id: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

pub fn options(segment_bytes: u64) -> Options {
    Options { store: STORE, segment_bytes }
}

/// Opens a log and says what is in it.
pub fn open(
    disk: FaultyDisk,
    options: &Options,
    entropy: u64,
) -> Result<(Wal<FaultyDisk>, Recovered, View), OpenError> {
    let mut view = View::default();
    let (wal, recovered) = Wal::open(disk, options.clone(), entropy, &mut |record| {
        match record {
            RecordRef::Txn { zxid, payload: bytes } => {
                let mut id = [0; 8];
                id.copy_from_slice(&bytes[..8]);
                let id = u64::from_le_bytes(id);
                assert_eq!(bytes, payload(id, bytes.len()), "the payload of {zxid} was changed");
                view.txns.push((zxid.raw(), id));
            }
            RecordRef::Epochs(epochs) => view.epochs = epochs,
            RecordRef::StateHead { file, zxid, .. } => view.state_head = Some((file.to_owned(), zxid.raw())),
        }
        Ok(())
    })?;
    // What stands in the records agrees with the summary, except where only the header of the first segment knows.
    assert!(view.epochs == Epochs::default() || view.epochs == recovered.epochs);
    let head = recovered.state_head.as_ref().map(|head| (head.file.clone(), head.zxid.raw()));
    assert!(view.state_head.is_none() || view.state_head == head, "{:?} {head:?}", view.state_head);
    assert_eq!(recovered.txns, view.txns.len() as u64);
    assert!(view.txns.is_sorted() && view.txns.last().is_none_or(|(last, _)| *last <= recovered.last_zxid.raw()));
    view.epochs = recovered.epochs;
    view.state_head = head;
    view.last_zxid = recovered.last_zxid.raw();
    Ok((wal, recovered, view))
}

/// Whether `found` is what the log held after some number of appends from `floor` on.
pub fn allowed(views: &[View], floor: usize, found: &View, begins_after: u64) -> bool {
    let covered = found.state_head.as_ref().map_or(0, |(_, zxid)| *zxid);
    begins_after <= covered && views[floor..].iter().any(|view| view.after(begins_after) == *found)
}

impl Runner {
    pub fn new(image: Image, segment_bytes: u64, record: bool) -> Result<Runner, OpenError> {
        let disk = FaultyDisk::new(image, record);
        Runner::on(disk, segment_bytes)
    }

    pub fn on(disk: FaultyDisk, segment_bytes: u64) -> Result<Runner, OpenError> {
        let options = options(segment_bytes);
        let files = disk.files();
        let (wal, _, view) = open(disk, &options, 1)?;
        let acked = vec![(0, 0), (files.steps(), 0)];
        Ok(Runner {
            wal: Some(wal),
            files,
            options,
            now_ns: 1_000_000_000,
            // Unlike those of an earlier runner on the same directory.
            next_id: (view.last_zxid << 20) + 1,
            views: vec![view],
            voids: vec![u64::MAX],
            acked,
            base: 0,
            lives: 1,
            counts: BTreeMap::new(),
        })
    }

    fn wal(&mut self) -> &mut Wal<FaultyDisk> {
        self.wal.as_mut().expect("the log is open")
    }

    /// How many appends were durable for certain after `steps` steps of the disk.
    pub fn floor(&self, steps: usize) -> usize {
        self.acked.iter().take_while(|(at, _)| *at <= steps).map(|(_, floor)| *floor).max().unwrap_or(0)
    }

    fn report(&mut self, durable: Option<Durable>) {
        let Some(durable) = durable else { return };
        let floor = self.base + durable.position.0 as usize;
        let before = self.acked.last().map_or(0, |(_, floor)| *floor);
        assert!(before < floor && floor < self.views.len(), "{durable:?}: {before} {floor} {}", self.views.len());
        // H34: what is durable, less what a record that was appended meanwhile voids.
        let held_down = self.voids[floor + 1..].iter().copied().min().unwrap_or(u64::MAX);
        assert_eq!(durable.up_to.raw(), self.views[floor].last_zxid.min(held_down), "{durable:?}");
        assert_eq!(self.wal.as_ref().map(|wal| wal.durable_zxid()), Some(durable.up_to), "{durable:?}");
        *self.counts.entry("batches").or_default() += u64::from(durable.batches);
        self.acked.push((self.files.steps(), floor));
    }

    fn poll(&mut self, ns: u64) -> Result<(), Failed> {
        self.now_ns += ns;
        let now_ns = self.now_ns;
        let durable = self.wal().poll(now_ns)?;
        self.report(durable);
        Ok(())
    }

    /// Appends, polling as long as there is no room.
    fn append(
        &mut self,
        voids: u64,
        change: impl FnOnce(&mut View),
        mut append: impl FnMut(&mut Wal<FaultyDisk>) -> Result<Position, Full>,
    ) -> Result<(), Failed> {
        let position = loop {
            match append(self.wal()) {
                Ok(position) => break position,
                Err(Full) => {
                    *self.counts.entry("full").or_default() += 1;
                    self.prepare()?;
                    let durable = {
                        let now_ns = self.now_ns;
                        self.files.set_order(Order::Oldest);
                        self.wal().flush(now_ns)?
                    };
                    self.report(durable);
                }
            }
        };
        let mut view = self.views.last().cloned().unwrap_or_default();
        change(&mut view);
        self.views.push(view);
        self.voids.push(voids);
        assert_eq!(self.base + position.0 as usize, self.views.len() - 1);
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), Failed> {
        while let Some(prepare) = self.wal().wants_segment() {
            self.wal().segment_prepared(prepare.run())?;
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), OpenError> {
        self.lives += 1;
        self.files.set_order(Order::Oldest);
        let floor = self.floor(usize::MAX);
        let (wal, recovered, view) = open(self.files.disk(), &self.options, self.lives)?;
        assert!(
            allowed(&self.views, floor, &view, recovered.begins_after.raw()),
            "life {} found {view:?}, after {floor} of {:#?}",
            self.lives,
            self.views
        );
        // From here on this is the history, whatever of it is still on the disk.
        let begins_after = recovered.begins_after.raw();
        let at = floor + self.views[floor..].iter().position(|known| known.after(begins_after) == view).unwrap_or(0);
        let full = self.views[at].clone();
        self.views.push(full);
        self.voids.push(u64::MAX);
        self.base = self.views.len() - 1;
        self.acked.push((self.files.steps(), self.base));
        self.wal = Some(wal);
        Ok(())
    }

    /// Performs one act. An error of the log is handed on; one of opening panics.
    pub fn act(&mut self, act: &Act) -> Result<(), Failed> {
        let view = self.views.last().cloned().unwrap_or_default();
        let head = view.state_head.as_ref().map_or(0, |(_, zxid)| *zxid);
        match act {
            Act::Txn(bytes) => {
                let (at, id) = (view.last_zxid + 1, self.next_id);
                self.next_id += 1;
                let bytes = payload(id, *bytes);
                self.append(
                    u64::MAX,
                    |view| {
                        view.txns.push((at, id));
                        view.last_zxid = at;
                    },
                    |wal| wal.append(zxid(at), &bytes),
                )?;
            }
            Act::Epochs => {
                let epochs = Epochs { accepted: view.epochs.accepted + 2, current: view.epochs.current + 1 };
                self.append(u64::MAX, |view| view.epochs = epochs, |wal| wal.append_epochs(epochs))?;
            }
            Act::Truncate(back) => {
                let to = view.last_zxid.saturating_sub(*back as u64).max(head);
                self.append(
                    to,
                    |view| {
                        view.txns.retain(|(zxid, _)| *zxid <= to);
                        view.last_zxid = to;
                    },
                    |wal| wal.append_truncate(zxid(to)),
                )?;
            }
            Act::StateHead(back) => {
                let at = view.last_zxid.saturating_sub(*back as u64).max(head);
                let file = format!("state.{at:x}");
                self.append(
                    u64::MAX,
                    |view| view.state_head = Some((file.clone(), at)),
                    |wal| wal.append_state_head(&file, zxid(at)),
                )?;
            }
            Act::Replace(distance) => {
                let at = view.last_zxid.saturating_add_signed(*distance).max(1);
                let file = format!("other.{at:x}");
                self.append(
                    0,
                    |view| {
                        view.txns.clear();
                        view.state_head = Some((file.clone(), at));
                        view.last_zxid = at;
                    },
                    |wal| wal.append_state_replacing_history(&file, zxid(at)),
                )?;
            }
            Act::Poll(ns) => self.poll(*ns)?,
            Act::Order(order) => self.files.set_order(*order),
            Act::Prepare => self.prepare()?,
            Act::Purge => {
                if let Some(purge) = self.wal().purge_before(Zxid::MAX) {
                    let outcome = purge.run();
                    if let Ok(purged) = &outcome {
                        *self.counts.entry("purged").or_default() += u64::from(purged.recycled + purged.removed);
                    }
                    self.wal().segments_purged(outcome)?;
                }
            }
            Act::Flush => {
                self.files.set_order(Order::Oldest);
                let now_ns = self.now_ns;
                let durable = self.wal().flush(now_ns)?;
                self.report(durable);
            }
            Act::Seal => {
                self.act(&Act::Flush)?;
                let now_ns = self.now_ns;
                let Some(wal) = self.wal.take() else { return Ok(()) };
                wal.seal(now_ns)?;
                self.reopen().unwrap_or_else(|failed| panic!("{failed}"));
            }
            Act::Kill(written) => {
                self.wal = None;
                self.files.kill(|at| written & (1 << at) != 0);
                self.reopen().unwrap_or_else(|failed| panic!("{failed}"));
            }
        }
        if let Some(wal) = &self.wal {
            self.counts.insert("segments begun in the last life", wal.stats().segments);
            self.counts.insert("idle marks in the last life", wal.stats().marks);
            self.counts.insert("recycled in the last life", wal.stats().recycled);
        }
        Ok(())
    }
}
