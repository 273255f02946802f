//! Where lines go: a file that is appended to, or a stream that may not be read.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{AuditFull, BACKLOG};

/// Lines that wait are written before they are more than this.
const TOGETHER: usize = 16 << 10;
/// How often a file's path is looked at, to see a rotation.
const LOOK: Duration = Duration::from_secs(1);

/// A line was not taken.
#[derive(Debug)]
pub(super) struct Refused;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where lines are appended, and when another file takes the place of the one that is open.
pub(super) trait Place: std::fmt::Debug {
    /// Before so many bytes are written: whether there is room, and in which file.
    fn before(&mut self, file: &mut Appended, bytes: usize) -> io::Result<()>;
    /// Whole lines were written.
    fn after(&mut self, lines: &[u8]);
    /// What to call it.
    fn path(&self) -> &Path;
}

/// Files that are appended to. Lines are written by whoever has them: one `write` for a line and those that wait.
#[derive(Debug)]
pub(super) struct Appender<P> {
    state: Mutex<AppendState<P>>,
    /// Bytes of `backlog`, to be read without the lock.
    waiting: AtomicUsize,
}

/// One file that is appended to, by rotation.
pub(super) type FileSink = Appender<Rotated>;

#[derive(Debug)]
struct AppendState<P> {
    file: Appended,
    place: P,
    /// End events that wait for the next write, and go before anything else.
    backlog: Vec<u8>,
    /// The last write failed; told once per trouble.
    failing: bool,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Appended {
    /// The file.
    pub(super) file: File,
    /// It ends in the middle of a line that could not be taken back.
    pub(super) torn: bool,
}

impl<P: Place> Appender<P> {
    pub(super) fn new(file: Appended, place: P) -> Self {
        let state = AppendState { file, place, backlog: Vec::new(), failing: false };
        Self { state: Mutex::new(state), waiting: AtomicUsize::new(0) }
    }

    /// Appends a line, after those that wait; in one write with them.
    pub(super) fn append(&self, line: &[u8]) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        let result = state.write_all_or_nothing(line);
        self.waiting.store(state.backlog.len(), Ordering::Relaxed);
        match result {
            Ok(()) => {
                if std::mem::take(&mut state.failing) {
                    tracing::info!(path = %state.place.path().display(), "the audit log can be written again");
                }
                Ok(())
            }
            Err(error) => {
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::error!(path = %state.place.path().display(), %error, "failed to write the audit log");
                }
                Err(Refused)
            }
        }
    }

    /// Takes a line that may wait for the next write; refused if too much waits already, and can't be written.
    pub(super) fn push(&self, line: &[u8]) -> Result<(), Refused> {
        if self.waiting() + line.len() > TOGETHER && self.append(line).is_ok() {
            return Ok(());
        }
        let mut state = lock(&self.state);
        if state.backlog.len() + line.len() > BACKLOG {
            return Err(Refused);
        }
        state.backlog.extend_from_slice(line);
        self.waiting.store(state.backlog.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes what waits. If that fails it goes on waiting.
    pub(super) fn settle(&self) {
        if self.waiting() > 0 {
            let _ = self.append(&[]);
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// One path, at which somebody else may put another file.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    /// Device and inode of the open file.
    identity: (u64, u64),
    looked: Instant,
}

impl FileSink {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (file, identity) = open(path)?;
        Ok(Self::new(file, Rotated { path: path.to_owned(), identity, looked: Instant::now() }))
    }

    pub(super) fn reopen(&self) {
        let AppendState { place, file, .. } = &mut *lock(&self.state);
        place.replace(file);
    }
}

impl Place for Rotated {
    fn before(&mut self, file: &mut Appended, _bytes: usize) -> io::Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let same = std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if !same {
            self.replace(file);
        }
        Ok(())
    }

    fn after(&mut self, _lines: &[u8]) {}

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Rotated {
    fn replace(&mut self, file: &mut Appended) {
        match open(&self.path) {
            Ok((opened, identity)) => {
                *file = opened;
                self.identity = identity;
            }
            // The old file is still open and still takes lines: better there than nowhere.
            Err(error) => tracing::error!(path = %self.path.display(), %error, "failed to open the audit log anew"),
        }
    }
}

/// A file for lines: statements and their parameters are nobody else's business.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true).read(true).mode(0o600);
    options
}

/// Opens the file; tells its identity, and whether it ends in the middle of a line.
fn open(path: &Path) -> io::Result<(Appended, (u64, u64))> {
    let file = options().open(path)?;
    let metadata = file.metadata()?;
    let mut torn = false;
    if metadata.is_file() && metadata.len() > 0 {
        let mut last = [0_u8];
        (&file).seek(SeekFrom::End(-1))?;
        (&file).read_exact(&mut last)?;
        torn = last != *b"\n";
    }
    Ok((Appended { file, torn }, (metadata.dev(), metadata.ino())))
}

impl<P: Place> AppendState<P> {
    fn write_all_or_nothing(&mut self, line: &[u8]) -> io::Result<()> {
        if self.backlog.is_empty() {
            return self.write(line);
        }
        let mut all = std::mem::take(&mut self.backlog);
        let waited = all.len();
        all.extend_from_slice(line);
        let result = self.write(&all);
        all.truncate(if result.is_ok() { 0 } else { waited });
        // Its room is used again: there is an end for every statement.
        all.shrink_to(TOGETHER);
        self.backlog = all;
        result
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.place.before(&mut self.file, lines.len())?;
        self.file.append_lines(lines)?;
        self.place.after(lines);
        Ok(())
    }
}

impl Appended {
    fn append_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.append(b"\n")?;
            self.torn = false;
        }
        self.append(lines)
    }

    /// Appends all of it. Of what a full disk cut short, the part that was written is taken back.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        let error = loop {
            if rest.is_empty() {
                return Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break io::Error::from(io::ErrorKind::WriteZero),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let written = (bytes.len() - rest.len()) as u64;
        if written > 0 {
            let length = self.file.metadata().map(|metadata| metadata.len());
            let taken_back = length.and_then(|length| self.file.set_len(length.saturating_sub(written)));
            self.torn = taken_back.is_err();
        }
        Err(error)
    }
}

/// A stream such as a pipe, that blocks while nobody reads it: a thread of its own writes it, from a bounded queue.
#[derive(Debug)]
pub(super) struct StreamSink {
    queue: Arc<Queue>,
    written: watch::Receiver<Progress>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines ever taken.
    taken: u64,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Lines ever written.
    written: u64,
    /// The stream is broken: nothing will be written any more.
    broken: bool,
}

impl StreamSink {
    pub(super) fn spawn(stream: Box<dyn Write + Send>) -> io::Result<Self> {
        let queue = Arc::new(Queue { state: Mutex::default(), filled: Condvar::new() });
        let (progress, written) = watch::channel(Progress::default());
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name("audit".into()).spawn(move || write_lines(&writer, stream, &progress))?;
        Ok(Self { queue, written })
    }

    /// Queues a line, if there is room; gives its number.
    pub(super) fn push(&self, line: Vec<u8>) -> Result<u64, Refused> {
        let mut state = lock(&self.queue.state);
        // A line longer than the whole queue must get through an empty one.
        let room = state.bytes == 0 || state.bytes + line.len() <= BACKLOG;
        if !room || self.written.borrow().broken {
            return Err(Refused);
        }
        state.bytes += line.len();
        state.taken += 1;
        state.lines.push_back(line);
        let number = state.taken;
        drop(state);
        self.queue.filled.notify_one();
        Ok(number)
    }

    /// Queues a line and waits until the stream has it.
    pub(super) async fn hand_over(&self, line: Vec<u8>, patience: Duration) -> Result<(), AuditFull> {
        let handed_over = async {
            let mut progress = self.written.clone();
            let number = loop {
                progress.borrow_and_update();
                // The queue is small enough that a copy for the rare full case costs nothing that matters.
                match self.push(line.clone()) {
                    Ok(number) => break number,
                    Err(Refused) if progress.borrow().broken => return Err(AuditFull),
                    Err(Refused) => progress.changed().await.map_err(|_| AuditFull)?,
                }
            };
            match progress.wait_for(|now| now.broken || now.written >= number).await {
                Ok(now) if now.written >= number => Ok(()),
                _ => Err(AuditFull),
            }
        };
        tokio::time::timeout(patience, handed_over).await.unwrap_or(Err(AuditFull))
    }

    pub(super) async fn flush(&self, patience: Duration) {
        let taken = lock(&self.queue.state).taken;
        let mut progress = self.written.clone();
        let _ = tokio::time::timeout(patience, progress.wait_for(|now| now.broken || now.written >= taken)).await;
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.queue.state).bytes
    }
}

impl Drop for StreamSink {
    fn drop(&mut self) {
        lock(&self.queue.state).closed = true;
        self.queue.filled.notify_one();
    }
}

fn write_lines(queue: &Queue, mut stream: Box<dyn Write + Send>, progress: &watch::Sender<Progress>) {
    loop {
        let batch = {
            let mut state = lock(&queue.state);
            while state.lines.is_empty() && !state.closed {
                state = queue.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.lines.is_empty() {
                return;
            }
            std::mem::take(&mut state.lines)
        };
        let count = batch.len() as u64;
        let bytes: Vec<u8> = batch.into_iter().flatten().collect();
        let result = write_stubbornly(&mut stream, &bytes);
        lock(&queue.state).bytes -= bytes.len();
        if let Err(error) = result {
            tracing::error!(%error, "failed to write the audit to standard output: statements are refused from now on");
            progress.send_modify(|now| now.broken = true);
            return;
        }
        progress.send_modify(|now| now.written += count);
    }
}

/// Writes and flushes all; a stream that somebody set to non-blocking is waited for.
fn write_stubbornly(stream: &mut Box<dyn Write + Send>, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    loop {
        let result = if rest.is_empty() { stream.flush().map(|()| 0) } else { stream.write(rest) };
        match result {
            Ok(_) if rest.is_empty() => return Ok(()),
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error),
        }
    }
}
