//! Stacks: shallow statements run where they are, deep ones on a thread of their own with a stack for the deepest tree
//! that the parser lets through.
//!
//! The parser in C measures the real thread's stack, so switching stacks within a thread won't do.

use std::sync::LazyLock;

use tokio::sync::{Semaphore, oneshot};

use super::Measure;
use crate::decide::{Denial, Reason};

/// Nesting up to which a statement runs on the caller's own stack. Workers have [`WORKER_STACK`].
///
/// A level of nesting takes up to five nested messages (a sub-select: list, target, sub-link, node, statement), and
/// each up to about 6 KiB in an unoptimised build, over all of decode, walk and comparison.
pub const INLINE_DEPTH: usize = 96;

/// The stack that a worker thread must have, for statements that run inline.
pub const WORKER_STACK: usize = 16 << 20;

/// The stack of a deep thread: the parser gives at most 10,000 nested messages, so 52 KiB for each. Only what is
/// touched becomes memory, and it is given back as the thread ends.
const DEEP_STACK: usize = 512 << 20;

/// How many deep statements run at once; others wait, shallow ones don't.
const DEEP_AT_ONCE: usize = 2;

/// Text and tokens up to which a statement is quick enough to run on the worker that serves the session.
const INLINE_BYTES: usize = 64 << 10;

static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(DEEP_AT_ONCE));

/// Whether a statement of this measure runs on the caller's stack.
pub const fn is_inline(measure: &Measure) -> bool {
    measure.depth <= INLINE_DEPTH && measure.bytes <= INLINE_BYTES
}

/// Runs `work` inline if the statement is shallow and short, else on a deep thread while the caller's worker goes on.
pub async fn run<T, F>(measure: &Measure, work: F) -> Result<T, Denial>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if is_inline(measure) {
        return Ok(work());
    }
    let Ok(slot) = SLOTS.acquire().await else { return Err(no_thread()) };
    let (send, receive) = oneshot::channel();
    let thread = std::thread::Builder::new().name("deep-sql".into()).stack_size(DEEP_STACK).spawn(move || {
        // The permit lives in the thread: a caller that goes away must not let more threads in than there are slots.
        let _slot = slot;
        // The receiver is gone if the session is.
        let _ = send.send(work());
    });
    if thread.is_err() {
        return Err(no_thread());
    }
    // An error means that the work panicked.
    receive.await.map_err(|_| Denial::new(Reason::Internal, "the analysis failed").sqlstate("XX000"))
}

/// Like [`run`] for callers that may block, such as `check` and the bind of a policy.
pub fn run_blocking<T, F>(measure: &Measure, work: F) -> Result<T, Denial>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    if is_inline(measure) {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("deep-sql".into()).stack_size(DEEP_STACK).spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Denial::new(Reason::Internal, "the analysis failed").sqlstate("XX000")),
            Err(_) => Err(no_thread()),
        }
    })
}

fn no_thread() -> Denial {
    Denial::new(Reason::Internal, "no thread for a deep statement").sqlstate("53000")
}
