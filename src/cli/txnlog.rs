//! `zorilla txnlog`: prints, checks, repairs and cuts transaction logs of Java servers.
//!
//! Arguments, output and exit codes are those of the reference's `TxnLogToolkit`; times are printed in UTC. `verify FILE`
//! is ours: it prints no records. One record at a time is held in memory.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use zorilla_proto::client::AclVec;
use zorilla_proto::ids::Zxid;
use zorilla_proto::jute;
use zorilla_proto::op::Op;
use zorilla_proto::txn::{Entry, Txn};

use super::date;
use super::tool::{Stop, Streams, ended, fault, open};
use crate::compat::Fault;
use crate::compat::txnlog::{EndKind, Record, Step, TxnLog};
use crate::limits::JUTE_MAXBUFFER_BYTES_MAX;

const USAGE: &str = "\
usage: TxnLogToolkit [-dhrvc] <txn_log_file_name> (-z <zxid>)
 -c,--chop         Chop mode. Chop txn file to a zxid.
 -d,--dump         Dump mode. Dump all entries of the log file with printing the content of a nodepath (default)
 -h,--help         Print help message
 -r,--recover      Recovery mode. Re-calculate CRC for broken entries.
 -v,--verbose      Be verbose in recovery mode: print all entries, not just fixed ones.
 -y,--yes          Non-interactive mode: repair all CRC errors without asking
 -z,--zxid <arg>   Used with chop. Zxid to which to chop.
";
const BAD_MAGIC: u8 = 2;
const RECORD_END: u8 = 0x42;
/// Logs grow by this much, as those of a server.
const PREALLOCATED_BYTES: u64 = 64 << 20;
const PREALLOCATED_LEFT_BYTES: u64 = 4096;

type Log = TxnLog<BufReader<File>>;

#[derive(Default)]
struct Typed {
    help: bool,
    recover: bool,
    verbose: bool,
    yes: bool,
    chop: bool,
    zxid: Option<OsString>,
    files: Vec<OsString>,
}

impl Typed {
    fn read(arguments: &[OsString]) -> Result<Typed, String> {
        let mut typed = Typed::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_string_lossy();
            let letters = match &*text {
                "--chop" => "c",
                "--dump" => "d",
                "--help" => "h",
                "--recover" => "r",
                "--verbose" => "v",
                "--yes" => "y",
                "--zxid" => "z",
                long if long.starts_with("--zxid=") => {
                    typed.zxid = Some(long["--zxid=".len()..].into());
                    continue;
                }
                short if 1 < short.len() && short.starts_with('-') && !short.starts_with("--") => &short[1..],
                long if long.starts_with("--") => return Err(format!("Unrecognized option: {long}")),
                _ => {
                    typed.files.push(argument.clone());
                    continue;
                }
            };
            for letter in letters.chars() {
                match letter {
                    'c' => typed.chop = true,
                    'd' => {}
                    'h' => typed.help = true,
                    'r' => typed.recover = true,
                    'v' => typed.verbose = true,
                    'y' => typed.yes = true,
                    'z' => {
                        typed.zxid = Some(rest.next().ok_or("Missing argument for option: z")?.clone());
                    }
                    _ => return Err(format!("Unrecognized option: {text}")),
                }
            }
        }
        Ok(typed)
    }
}

/// Does what `arguments` say; returns the exit code.
pub fn run(arguments: &[OsString], streams: &mut Streams<'_>) -> u8 {
    ended(streams, |streams| match arguments {
        [verify, file] if verify == "verify" => check(Path::new(file), streams),
        _ => toolkit(arguments, streams),
    })
}

fn toolkit(arguments: &[OsString], streams: &mut Streams<'_>) -> Result<u8, Stop> {
    let typed = match Typed::read(arguments) {
        Ok(typed) => typed,
        Err(text) => {
            streams.out.write_all(USAGE.as_bytes())?;
            return Err(Stop::Said(text, 1));
        }
    };
    let Some(file) = typed.files.first().map(Path::new).filter(|_| !typed.help) else {
        streams.out.write_all(USAGE.as_bytes())?;
        return Ok(u8::from(!typed.help));
    };
    match &typed.zxid {
        Some(zxid) if typed.chop => {
            let text = zxid.to_string_lossy();
            let zxid = decode(&text).ok_or_else(|| Stop::Said(format!("no zxid: {text}"), 1))?;
            chop(file, zxid, streams)
        }
        _ if typed.recover => {
            let log = opened(file)?;
            let to = Fixed::new(with_suffix(file, ".fixed".as_ref()), &log)?;
            walk(log, Some(to), &typed, streams)
        }
        _ => walk(opened(file)?, None, &typed, streams),
    }
}

/// A number as Java's `Long.decode` takes it.
fn decode(text: &str) -> Option<u64> {
    let (digits, radix) = match (text.strip_prefix("0x").or(text.strip_prefix("0X")), text.strip_prefix('#')) {
        (Some(digits), _) | (_, Some(digits)) => (digits, 16),
        _ if 1 < text.len() && text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    i64::from_str_radix(digits, radix).ok().and_then(|zxid| u64::try_from(zxid).ok())
}

fn with_suffix(file: &Path, suffix: &OsStr) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn opened(file: &Path) -> Result<Log, Stop> {
    let name = file.display();
    let bytes = open(file, || Stop::Said(format!("File doesn't exist or not readable: {name}"), 1))?;
    TxnLog::open(file, bytes, JUTE_MAXBUFFER_BYTES_MAX).map_err(|found| match found {
        Fault::Damaged(damage) if damage.offset == 0 => {
            Stop::Said(format!("Invalid magic number for {name}"), BAD_MAGIC)
        }
        other => other.into(),
    })
}

fn print_header(log: &Log, streams: &mut Streams<'_>) -> Result<(), Stop> {
    let (dbid, version) = (log.dbid(), log.version());
    writeln!(streams.out, "ZooKeeper Transactional Log File with dbid {dbid} txnlog format version {version}")?;
    Ok(())
}

fn entry<'a>(file: &Path, record: &Record<'a>) -> Result<Entry<'a>, Stop> {
    Entry::decode(record.entry).map_err(|error| {
        let offset = record.offset;
        Stop::Said(format!("{}: the entry of the record at byte {offset} cannot be read: {error}", file.display()), 1)
    })
}

/// Dumps the log, or writes it anew with right checksums.
fn walk(mut log: Log, mut to: Option<Fixed>, typed: &Typed, streams: &mut Streams<'_>) -> Result<u8, Stop> {
    print_header(&log, streams)?;
    let file = log.name().to_path_buf();
    let (mut count, mut fixed) = (0, 0);
    let end = loop {
        let record = match log.next()? {
            Step::Record(record) => record,
            Step::End(end) => break end,
        };
        let fix = show(&file, &record, to.is_some(), typed, streams)?;
        if let Some(to) = &mut to {
            to.record(if fix { record.computed.into() } else { record.stored }, record.entry)?;
        }
        fixed += u64::from(fix);
        count += 1;
    };
    if let Some(record) = log.unfinished() {
        show(&file, &record, to.is_some(), typed, streams)?;
    }
    match end.how {
        EndKind::OtherRecordEnd(_) => return Err(Stop::Said("Last transaction was partial.".to_owned(), 1)),
        EndKind::NoRecordEnd => {
            let (file, offset, how) = (file.display(), end.offset, end.how);
            return Err(Stop::Said(format!("{file}: byte {offset}: expected a record, found {how}"), 1));
        }
        EndKind::File | EndKind::Padding | EndKind::CutHead { .. } | EndKind::CutEntry { .. } => {}
    }
    writeln!(streams.out, "EOF reached after {count} txns.")?;
    if let Some(to) = to {
        let name = to.close()?;
        writeln!(streams.out, "Recovery file {} has been written with {fixed} fixed CRC error(s)", name.display())?;
    }
    Ok(0)
}

/// Prints a record as far as it is to be printed; whether its checksum is to be replaced.
fn show(
    file: &Path,
    record: &Record<'_>,
    recovers: bool,
    typed: &Typed,
    streams: &mut Streams<'_>,
) -> Result<bool, Stop> {
    let prints = !recovers || typed.verbose;
    if record.is_intact() && !prints {
        return Ok(false);
    }
    let line = line(&entry(file, record)?);
    let mut fix = false;
    if !record.is_intact() {
        let what = if recovers && typed.yes { "CRC FIXED" } else { "CRC ERROR" };
        writeln!(streams.out, "{what} - {line}")?;
        fix = recovers && (typed.yes || ask(streams)?);
    }
    if prints {
        writeln!(streams.out, "{line}")?;
    }
    Ok(fix)
}

/// Whether to repair; an `Err` with exit code 0 is the answer to stop.
fn ask(streams: &mut Streams<'_>) -> Result<bool, Stop> {
    loop {
        write!(streams.out, "Would you like to fix it (Yes/No/Abort) ? ")?;
        streams.out.flush()?;
        let mut answer = String::new();
        let no_answer = |why: String| Stop::Said(format!("The question was not answered: {why}"), 1);
        match streams.input.read_line(&mut answer) {
            Ok(0) => return Err(no_answer("the end of standard input".to_owned())),
            Ok(_) => {}
            Err(error) => return Err(no_answer(error.to_string())),
        }
        match answer.trim_start().chars().next().map(|letter| letter.to_ascii_lowercase()) {
            Some('y') => return Ok(true),
            Some('n') => return Ok(false),
            Some('a') => return Err(Stop::Said("Recovery aborted.".to_owned(), 0)),
            _ => {}
        }
    }
}

/// A log that is being written.
struct Fixed {
    name: PathBuf,
    to: BufWriter<File>,
    bytes: u64,
    /// Its size with padding; zero where it gets none.
    allocated: u64,
}

impl Fixed {
    fn new(name: PathBuf, log: &Log) -> Result<Fixed, Stop> {
        let text = format!("Recovery file {} already exists or not writable", name.display());
        let file = File::options().write(true).create_new(true).open(&name).map_err(|_| Stop::Said(text, 1))?;
        let mut fixed = Fixed { name, to: BufWriter::new(file), bytes: 0, allocated: PREALLOCATED_BYTES };
        fixed.grow(PREALLOCATED_BYTES)?;
        fixed.header(log)?;
        Ok(fixed)
    }

    fn chopped(name: PathBuf, log: &Log) -> Result<Fixed, Stop> {
        let file = File::create(&name).map_err(fault("create", &name))?;
        let mut chopped = Fixed { name, to: BufWriter::new(file), bytes: 0, allocated: 0 };
        chopped.header(log)?;
        Ok(chopped)
    }

    fn header(&mut self, log: &Log) -> Result<(), Stop> {
        let mut header = b"ZKLG".to_vec();
        jute::put_i32(&mut header, log.version());
        jute::put_i64(&mut header, log.dbid());
        self.write(&header)
    }

    fn grow(&mut self, bytes: u64) -> Result<(), Stop> {
        self.to.get_ref().set_len(bytes).map_err(fault("grow", &self.name))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes).map_err(fault("write", &self.name))
    }

    fn record(&mut self, checksum: u64, entry: &[u8]) -> Result<(), Stop> {
        let mut head = Vec::with_capacity(12);
        jute::put_i64(&mut head, checksum as i64);
        jute::put_i32(&mut head, entry.len() as i32);
        self.write(&head)?;
        self.write(entry)?;
        self.write(&[RECORD_END])?;
        if 0 < self.allocated && self.allocated <= self.bytes + PREALLOCATED_LEFT_BYTES {
            self.allocated = (self.bytes / PREALLOCATED_BYTES + 2) * PREALLOCATED_BYTES;
            self.grow(self.allocated)?;
        }
        Ok(())
    }

    /// Makes it durable; its name.
    fn close(mut self) -> Result<PathBuf, Stop> {
        self.to.flush().map_err(fault("write", &self.name))?;
        self.to.get_ref().sync_all().map_err(fault("synchronise", &self.name))?;
        Ok(self.name)
    }
}

/// Writes the records up to `zxid` to a file beside the log.
fn chop(file: &Path, zxid: u64, streams: &mut Streams<'_>) -> Result<u8, Stop> {
    let mut log = opened(file)?;
    let mut to = Fixed::chopped(with_suffix(file, format!(".chopped{zxid}").as_ref()), &log)?;
    print_header(&log, streams)?;
    let mut last: Option<Zxid> = None;
    let mut count = 0;
    loop {
        let record = match log.next()? {
            Step::Record(record) => record,
            Step::End(end) => {
                to.close()?;
                if let EndKind::OtherRecordEnd(_) = end.how {
                    writeln!(streams.out, "Last transaction was partial.")?;
                } else {
                    writeln!(streams.out, "EOF reached after {count} txns.")?;
                }
                writeln!(streams.out, "Got exception: Failed to chop {}", file.display())?;
                return Ok(0);
            }
        };
        if !record.is_intact() {
            let (file, Record { offset, stored, computed, .. }) = (file.display(), record);
            let text = format!("{file}: byte {offset}: expected the checksum {computed:#x}, found {stored:#x}");
            return Err(Stop::Said(text, 1));
        }
        let found = entry(file, &record)?.header.zxid;
        if zxid < found.raw() {
            to.close()?;
            if last.is_none_or(|last| last.raw() != zxid) {
                writeln!(streams.out, "This log does not contain zxid {zxid:x}")?;
            }
            writeln!(streams.out, "Chopping at {zxid:x} new log has {count} records")?;
            return Ok(0);
        }
        if let Some(gap) = last.and_then(|last| gap(last, found)) {
            writeln!(streams.out, "{gap}")?;
        }
        to.record(record.stored, record.entry)?;
        last = Some(found);
        count += 1;
    }
}

/// What is missing between two records that follow each other.
fn gap(last: Zxid, next: Zxid) -> Option<String> {
    let (last, next) = (last.raw(), next.raw());
    let epoch_ends = last >> 32 != next >> 32;
    let expected = if epoch_ends { (next >> 32 << 32) + 1 } else { last + 1 };
    let kind = if epoch_ends { "inter" } else { "intra" };
    (next != expected).then(|| format!("There is {kind}-epoch gap between {last:x} and {next:x}"))
}

/// Reads the whole log and judges it.
fn check(file: &Path, streams: &mut Streams<'_>) -> Result<u8, Stop> {
    let mut log = opened(file)?;
    let name = file.display();
    let (mut count, mut wrong, mut last) = (0u64, 0u64, Zxid::ZERO);
    let end = loop {
        let record = match log.next()? {
            Step::Record(record) => record,
            Step::End(end) => break end,
        };
        count += 1;
        if record.is_intact() {
            last = entry(file, &record)?.header.zxid;
            continue;
        }
        wrong += 1;
        let Record { offset, stored, computed, .. } = record;
        writeln!(streams.out, "{name}: byte {offset}: expected the checksum {computed:#x}, found {stored:#x}")?;
    };
    let (rest, other) = log.rest()?;
    writeln!(streams.out, "{count} records, the last at {last}; then, at byte {}, {}", end.offset, end.how)?;
    match other {
        Some(at) => writeln!(streams.out, "{name}: byte {at}: expected zeros up to the end, found something else")?,
        None => writeln!(streams.out, "{rest} bytes of zeros follow")?,
    }
    let ends_well = matches!(end.how, EndKind::File | EndKind::Padding) && other.is_none();
    Ok(u8::from(0 < wrong || !ends_well))
}

/// A record as one line, without its end.
fn line(entry: &Entry<'_>) -> String {
    let Entry { header, txn, .. } = entry;
    let time = date::short(header.time_ms);
    let (session, cxid, zxid) = (header.session.raw(), header.cxid, header.zxid.raw());
    let op = Op::from_raw(header.op).map_or_else(|| format!("unknown {}", header.op), |op| op.name().to_owned());
    format!("{time} session {session:#x} cxid {cxid:#x} zxid {zxid:#x} {op} {}", text(txn))
}

fn text(txn: &Txn<'_>) -> String {
    let raw = |data: &Option<&[u8]>| jute::text(data.unwrap_or_default()).into_owned();
    match txn {
        Txn::Create { path, data, acl, ephemeral, parent_cversion, .. } => {
            format!("{path},{},{},{ephemeral},{parent_cversion}", raw(data), acls(*acl))
        }
        Txn::CreateContainer { path, data, acl, parent_cversion } => {
            format!("{path},{},{},{parent_cversion}", raw(data), acls(*acl))
        }
        Txn::CreateTtl { path, data, acl, parent_cversion, ttl_ms } => {
            format!("{path},{},{},{parent_cversion},{ttl_ms}", raw(data), acls(*acl))
        }
        Txn::Delete { path } | Txn::DeleteContainer { path } => quoted(path),
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            format!("{path},{},{version}", raw(data))
        }
        Txn::SetAcl { path, acl, version } => {
            let each = acl.iter().flat_map(|acl| acl.iter());
            let list: Vec<_> =
                each.map(|acl| one_acl(acl.perms, acl.scheme.as_deref(), acl.id.as_deref(), "s{")).collect();
            format!("{},v{{{}}},{version}", quoted(path), list.join(","))
        }
        Txn::Check { path, version } => format!("{},{version}", quoted(path)),
        Txn::CreateSession { timeout_ms } => timeout_ms.to_string(),
        Txn::CloseSession { paths } => {
            let paths: Vec<_> = paths.iter().flat_map(|paths| paths.iter()).map(|path| quoted(&path)).collect();
            format!("v{{{}}}", paths.join(","))
        }
        Txn::Multi(parts) => {
            let part = |op: i32, body: &[u8]| match Op::from_raw(op) {
                Some(op) => format!("{}:{}", op.name(), jute::text(body)),
                None => format!("unknown {op}:{}", jute::text(body)),
            };
            parts.iter().map(|each| part(each.op, each.body)).collect::<Vec<_>>().join(";")
        }
        Txn::Error { code } => code.to_string(),
    }
}

/// The list of a create: each element ends its line.
fn acls(list: Option<AclVec<'_>>) -> String {
    let each = list.iter().flat_map(|list| list.iter());
    let each: Vec<_> =
        each.map(|acl| one_acl(acl.perms, acl.scheme.as_deref(), acl.id.as_deref(), "").replace('}', "}\n")).collect();
    format!("[{}]", each.join(", "))
}

fn one_acl(perms: i32, scheme: Option<&str>, id: Option<&str>, open: &str) -> String {
    let close = if open.is_empty() { "" } else { "}" };
    let (scheme, id) = (quoted(scheme.unwrap_or_default()), quoted(id.unwrap_or_default()));
    format!("{open}{perms},s{{{scheme},{id}}}{close}")
}

/// A string in a record's text form.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for letter in text.chars() {
        match letter {
            '\0' | '\n' | '\r' | ',' | '}' | '%' => {
                write!(quoted, "%{:02X}", letter as u32).expect("a string takes all");
            }
            other => quoted.push(other),
        }
    }
    quoted
}
