//! The spool: events in a folder, until somebody else has them.
//!
//! A process writes a *stream*: events with numbers from 1, in segments named `<stream>-<number of the first event>`.
//! Streams that a process before this one left are sent first. A segment is removed once all of it is acknowledged.
//!
//! **Promise.** An event that was taken is in a file, and stays there until it was acknowledged: none is lost by the
//! end of this process, however it ends. Some may be sent twice; their numbers tell.
//! **Also.** The folder is one process's at a time: what another one still writes would be sent, and removed. It never
//! grows over its limit: over the size of its volume the whole pod would be evicted.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Notify;

use super::sink::{Appended, Appender, Place, lock, options};

/// A segment that is larger is followed by another one.
const SEGMENT: u64 = 1 << 20;
/// Bytes of a batch, unless a single event has more.
const BATCH: u64 = 512 << 10;

/// The folder that is written to.
#[derive(Debug)]
pub(super) struct Spool {
    /// Takes the lines.
    pub(super) lines: Appender<Segments>,
    shared: Arc<Shared>,
}

/// What the side that writes and the side that sends both know.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Locked for as long as this process lives.
    _lock: File,
    limit: u64,
    /// The segment that is being written.
    writing: Mutex<Writing>,
    /// Bytes of all segments.
    bytes: AtomicU64,
    /// Bytes of the folders beside this one, on the same volume.
    beside: AtomicU64,
    /// Events that are not acknowledged.
    unsent: AtomicU64,
    filled: Notify,
}

/// How far the last segment is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Writing {
    name: Name,
    /// Up to here whole lines.
    bytes: u64,
}

/// The name of a segment. In their order they are to be sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    stream: String,
    first: u64,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let (stream, first) = name.split_once('-')?;
        let is_stream = stream.len() == STREAM && stream.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_stream && first.len() == 20)
            .then(|| first.parse().ok())
            .flatten()
            .map(|first| Self { stream: stream.to_owned(), first })
    }

    fn in_folder(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{:020}", self.stream, self.first))
    }
}

/// Digits of a stream's id: of milliseconds, so that ids sort by age, and of chance.
const STREAM: usize = 12 + 20;

fn new_stream() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() & 0xffff_ffff_ffff;
    format!("{now:012x}{:020x}", rand::random::<u128>() >> 48)
}

/// The segments of a folder, with their sizes.
fn segments(folder: &Path) -> io::Result<Vec<(Name, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(Name::parse) {
            found.push((name, entry.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Spool {
    /// Opens the folder, made if it isn't there, for a new stream.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        // Statements may be in it.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                let why = format!("{} is the spool of another process; each needs its own", folder.display());
                io::Error::new(io::ErrorKind::ResourceBusy, why)
            }
            TryLockError::Error(error) => error,
        })?;
        let (mut bytes, mut unsent) = (0, 0);
        for (name, size) in segments(folder)? {
            bytes += size;
            unsent += count_lines(&fs::read(name.in_folder(folder))?);
        }
        let name = Name { stream: new_stream(), first: 1 };
        let file = Appended { file: options().open(name.in_folder(folder))?, torn: false };
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            _lock: lock,
            limit,
            writing: Mutex::new(Writing { name: name.clone(), bytes: 0 }),
            bytes: AtomicU64::new(bytes),
            beside: AtomicU64::new(0),
            unsent: AtomicU64::new(unsent),
            filled: Notify::new(),
        });
        let segments = Segments { shared: Arc::clone(&shared), now: Writing { name, bytes: 0 }, next: 1 };
        Ok(Self { lines: Appender::new(file, segments), shared })
    }

    /// The side that sends; there is one.
    pub(super) fn outbox(&self) -> Outbox {
        Outbox { shared: Arc::clone(&self.shared), reading: None, acknowledged: None, newly: 0 }
    }
}

/// The segments of this process's stream.
#[derive(Debug)]
pub(super) struct Segments {
    shared: Arc<Shared>,
    now: Writing,
    /// The number of the next event.
    next: u64,
}

impl Place for Segments {
    fn before(&mut self, file: &mut Appended, bytes: usize) -> io::Result<()> {
        // Before the room is looked at: what is not written any more can be sent and removed. And what is torn is never
        // ended: a line without its end was not taken.
        if file.torn || (self.now.bytes >= SEGMENT && bytes > 0) {
            let name = Name { stream: self.now.name.stream.clone(), first: self.next };
            *file = Appended { file: options().open(name.in_folder(&self.shared.folder))?, torn: false };
            self.now = Writing { name, bytes: 0 };
            lock(&self.shared.writing).clone_from(&self.now);
        }
        let used = self.shared.bytes.load(Ordering::Relaxed) + self.shared.beside.load(Ordering::Relaxed);
        if bytes > 0 && used + bytes as u64 > self.shared.limit {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the spool is full"));
        }
        Ok(())
    }

    fn after(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let events = count_lines(lines);
        self.next += events;
        self.now.bytes += lines.len() as u64;
        self.shared.bytes.fetch_add(lines.len() as u64, Ordering::Relaxed);
        self.shared.unsent.fetch_add(events, Ordering::Relaxed);
        lock(&self.shared.writing).bytes = self.now.bytes;
        self.shared.filled.notify_one();
    }

    fn path(&self) -> &Path {
        &self.shared.folder
    }
}

/// Events of one stream, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The stream.
    pub stream: String,
    /// Number of the first event.
    pub first: u64,
    /// Every event of the stream up to this number was acknowledged before.
    pub acknowledged: u64,
    /// How many there are.
    pub events: u64,
    /// The events, a line each.
    pub lines: Bytes,
}

impl Batch {
    /// Number of the last event.
    pub const fn last(&self) -> u64 {
        self.first + self.events - 1
    }
}

/// What is in the spool, in the order to be sent.
#[derive(Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
    reading: Option<Reading>,
    /// The stream that was sent last, and up to which number it is acknowledged.
    acknowledged: Option<(String, u64)>,
    /// Events acknowledged since somebody asked.
    newly: u64,
}

#[derive(Debug)]
struct Reading {
    name: Name,
    file: File,
    /// Up to here it is acknowledged.
    offset: u64,
    /// The number of the event there.
    next: u64,
}

impl Outbox {
    /// The next events that aren't acknowledged; the same again until they are.
    pub fn peek(&mut self) -> io::Result<Option<Batch>> {
        loop {
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => match self.oldest()? {
                    Some(reading) => reading,
                    None => return Ok(None),
                },
            };
            // Looked at first: a segment that is not being written now is whole.
            let writing = lock(&self.shared.writing).clone();
            let end = (writing.name == reading.name).then_some(writing.bytes);
            let lines = reading.lines(end)?;
            if !lines.is_empty() {
                let batch = Batch {
                    stream: reading.name.stream.clone(),
                    first: reading.next,
                    acknowledged: self.acknowledged_before(&reading),
                    events: count_lines(&lines),
                    lines,
                };
                self.reading = Some(reading);
                return Ok(Some(batch));
            }
            if end.is_some() {
                self.reading = Some(reading);
                return Ok(None);
            }
            self.remove(&reading.name)?;
        }
    }

    fn oldest(&self) -> io::Result<Option<Reading>> {
        let Some((name, _)) = segments(&self.shared.folder)?.into_iter().next() else { return Ok(None) };
        let file = File::open(name.in_folder(&self.shared.folder))?;
        Ok(Some(Reading { next: name.first, name, file, offset: 0 }))
    }

    fn acknowledged_before(&self, reading: &Reading) -> u64 {
        match &self.acknowledged {
            Some((stream, number)) if *stream == reading.name.stream => *number,
            // The segments before were removed, so they were acknowledged.
            _ => reading.name.first.saturating_sub(1),
        }
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        let path = name.in_folder(&self.shared.folder);
        let size = fs::metadata(&path)?.len();
        fs::remove_file(&path)?;
        let _ =
            self.shared.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(size)));
        Ok(())
    }

    /// The events of this batch up to a number need not be sent again. False if that is none of them.
    pub fn acknowledge(&mut self, batch: &Batch, number: u64) -> bool {
        let number = number.min(batch.last());
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.next == batch.first) else { return false };
        let Some(events) = (number + 1).checked_sub(batch.first).filter(|events| *events > 0) else { return false };
        let lines = batch.lines.split_inclusive(|byte| *byte == b'\n');
        reading.offset +=
            lines.take(usize::try_from(events).unwrap_or(usize::MAX)).map(<[u8]>::len).sum::<usize>() as u64;
        reading.next += events;
        self.acknowledged = Some((batch.stream.clone(), number));
        self.newly += events;
        let _ = self
            .shared
            .unsent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(events)));
        true
    }

    /// How many were acknowledged since this was asked last.
    pub fn take_acknowledged(&mut self) -> u64 {
        std::mem::take(&mut self.newly)
    }

    /// Bytes of the folder.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Events that are not acknowledged.
    pub fn unsent(&self) -> u64 {
        self.shared.unsent.load(Ordering::Relaxed)
    }

    /// Returns when there may be more.
    pub async fn filled(&self) {
        self.shared.filled.notified().await;
    }

    /// Looks how much of the volume the spools of other sidecars use.
    pub fn look_around(&self) {
        let folder = &self.shared.folder;
        let others = folder.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
        let sizes = others
            .map(|entry| entry.path())
            .filter(|path| path != folder)
            .filter_map(|path| segments(&path).ok())
            .map(|segments| segments.iter().map(|(_, size)| size).sum::<u64>());
        self.shared.beside.store(sizes.sum(), Ordering::Relaxed);
    }
}

impl Reading {
    /// Whole lines from `offset` on, of a batch's size; at least one, if there is a whole one before `end`.
    fn lines(&mut self, end: Option<u64>) -> io::Result<Bytes> {
        let end = match end {
            Some(end) => end,
            None => self.file.metadata()?.len(),
        };
        let mut size = BATCH;
        loop {
            let there = end.saturating_sub(self.offset);
            let mut bytes = Vec::new();
            self.file.seek(SeekFrom::Start(self.offset))?;
            (&self.file).take(size.min(there)).read_to_end(&mut bytes)?;
            match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(last) => {
                    bytes.truncate(last + 1);
                    return Ok(bytes.into());
                }
                None if size >= there => return Ok(Bytes::new()),
                None => size = size.saturating_mul(4),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    /// A folder of the test's own, gone when it ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("postern-spool-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self, limit: u64) -> Spool {
            Spool::open(&self.0.join("postern"), limit).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn line(text: &str, size: usize) -> Vec<u8> {
        let mut line = text.as_bytes().to_vec();
        line.resize(size, b'x');
        line.push(b'\n');
        line
    }

    /// All that is there, acknowledged as it comes: stream, number and text of each event.
    fn send_all(outbox: &mut Outbox) -> Vec<(String, u64, String)> {
        let mut sent = Vec::new();
        while let Some(batch) = outbox.peek().unwrap() {
            let text = String::from_utf8(batch.lines.to_vec()).unwrap();
            sent.extend(
                (batch.first..).zip(text.lines()).map(|(number, line)| (batch.stream.clone(), number, line.to_owned())),
            );
            assert!(outbox.acknowledge(&batch, batch.last()));
        }
        sent
    }

    #[test]
    fn events_come_in_order_with_their_numbers_over_all_segments() {
        let folder = Folder::new("order");
        let spool = folder.open(1 << 30);
        let mut outbox = spool.outbox();
        let size = 100_000;
        for number in 1..=30 {
            spool.lines.append(&line(&format!("event {number} "), size)).unwrap();
        }
        assert!(segments(&outbox.shared.folder).unwrap().len() > 2);
        let sent = send_all(&mut outbox);
        assert_eq!(sent.len(), 30);
        for (at, (stream, number, text)) in sent.iter().enumerate() {
            assert_eq!((stream, *number), (&sent[0].0, at as u64 + 1));
            assert!(text.starts_with(&format!("event {number} ")), "{number}");
        }
        assert_eq!((outbox.unsent(), outbox.take_acknowledged(), outbox.take_acknowledged()), (0, 30, 0));
        // Only the segment that is still written is left.
        assert_eq!(segments(&outbox.shared.folder).unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_acknowledged_comes_again() {
        let folder = Folder::new("again");
        let spool = folder.open(1 << 20);
        let mut outbox = spool.outbox();
        for number in 1..=3 {
            spool.lines.append(&line(&format!("e{number}"), 2)).unwrap();
        }
        let batch = outbox.peek().unwrap().unwrap();
        assert_eq!((batch.first, batch.events, batch.acknowledged), (1, 3, 0));
        assert_eq!(outbox.peek().unwrap().as_ref(), Some(&batch));
        assert!(!outbox.acknowledge(&batch, 0));
        assert!(outbox.acknowledge(&batch, 2));
        let rest = outbox.peek().unwrap().unwrap();
        assert_eq!((rest.first, rest.events, rest.acknowledged, &rest.lines[..]), (3, 1, 2, &b"e3\n"[..]));
        // An answer to a batch that is over changes nothing.
        assert!(!outbox.acknowledge(&batch, 3));
        assert_eq!(outbox.unsent(), 1);
    }

    #[test]
    fn what_an_ended_process_left_is_sent_first_without_its_half_line() {
        let folder = Folder::new("left");
        let old = folder.open(1 << 20);
        old.lines.append(b"old 1\n").unwrap();
        old.lines.append(b"old 2\n").unwrap();
        let name = lock(&old.shared.writing).name.clone();
        drop(old);
        // Killed in the middle of a write.
        let mut bytes = fs::read(name.in_folder(&folder.0.join("postern"))).unwrap();
        bytes.extend_from_slice(b"old 3 with no e");
        fs::write(name.in_folder(&folder.0.join("postern")), bytes).unwrap();
        // Streams are told apart by milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(5));

        let new = folder.open(1 << 20);
        let mut outbox = new.outbox();
        assert_eq!(outbox.unsent(), 2);
        new.lines.append(b"new 1\n").unwrap();
        let sent = send_all(&mut outbox);
        let told: Vec<_> = sent.iter().map(|(_, number, text)| (*number, text.as_str())).collect();
        assert_eq!(told, [(1, "old 1"), (2, "old 2"), (1, "new 1")]);
        assert_ne!(sent[0].0, sent[2].0);
        assert!(!name.in_folder(&folder.0.join("postern")).exists());
    }

    #[test]
    fn a_folder_is_the_spool_of_one_process_at_a_time() {
        let folder = Folder::new("one");
        let first = folder.open(1 << 20);
        let second = Spool::open(&folder.0.join("postern"), 1 << 20).unwrap_err();
        assert!(second.to_string().contains("the spool of another process"), "{second}");
        drop(first);
        folder.open(1 << 20);
    }

    #[test]
    fn a_full_spool_takes_nothing_until_something_was_sent() {
        let folder = Folder::new("full");
        let spool = folder.open(3 << 20);
        let mut outbox = spool.outbox();
        let event = line("e", 99_999);
        let mut taken = 0;
        while spool.lines.append(&event).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, (3 << 20) / 100_000);
        assert!(outbox.bytes() <= 3 << 20);
        assert_eq!(send_all(&mut outbox).len(), taken);
        spool.lines.append(&event).unwrap();
    }

    #[test]
    fn the_limit_is_that_of_the_volume_which_others_share() {
        let folder = Folder::new("beside");
        let spool = folder.open(1 << 20);
        let other = Spool::open(&folder.0.join("postern-2"), 1 << 20).unwrap();
        other.lines.append(&line("e", 1_000_000)).unwrap();
        fs::write(folder.0.join("postern-2").join("not-a-segment"), vec![0; 1 << 20]).unwrap();
        let outbox = spool.outbox();
        outbox.look_around();
        assert!(spool.lines.append(&line("e", 100_000)).is_err());
        assert!(spool.lines.append(&line("e", 10_000)).is_ok());
    }

    #[test]
    fn an_event_larger_than_a_batch_goes_whole() {
        let folder = Folder::new("large");
        let spool = folder.open(1 << 30);
        let size = usize::try_from(BATCH).unwrap() * 5;
        spool.lines.append(b"small\n").unwrap();
        spool.lines.append(&line("large", size)).unwrap();
        let mut outbox = spool.outbox();
        let sent = send_all(&mut outbox);
        assert_eq!(sent.iter().map(|(_, number, text)| (*number, text.len())).collect::<Vec<_>>(), [(1, 5), (2, size)]);
    }
}
