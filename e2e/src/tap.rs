//! A relay between a gate and its server that shows what the gate sends, and holds back what the server answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

/// The relay. Its threads end with the connections that they serve.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What was sent on each connection, in the order in which they were made.
    sent: Vec<Vec<u8>>,
    held: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// Starts a relay to a port on 127.0.0.1.
    pub fn start(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let tap = Self { port: listener.local_addr()?.port(), shared: Arc::default() };
        let shared = Arc::clone(&tap.shared);
        std::thread::spawn(move || {
            for gate in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(from), Ok(to)) = (upstream.try_clone(), gate.try_clone()) else { continue };
                let index = {
                    let mut state = shared.state();
                    state.sent.push(Vec::new());
                    state.sent.len() - 1
                };
                let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                std::thread::spawn(move || {
                    pass(gate, upstream, |bytes| {
                        if let Some(sent) = up.state().sent.get_mut(index) {
                            sent.extend(bytes);
                        }
                    });
                });
                std::thread::spawn(move || {
                    pass(from, to, |_| {
                        let mut state = down.state();
                        while state.held {
                            state = down.released.wait(state).unwrap_or_else(PoisonError::into_inner);
                        }
                    });
                });
            }
        });
        Ok(tap)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was sent to the server so far, on each connection in the order in which they were made.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.shared.state().sent.clone()
    }

    /// From now on nothing that the server says is passed on.
    pub fn hold(&self) {
        self.shared.state().held = true;
    }

    /// What was held is passed on, and all that follows.
    pub fn release(&self) {
        self.shared.state().held = false;
        self.shared.released.notify_all();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.release();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        before(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    _ = to.shutdown(Shutdown::Write);
}
