//! What a name means, as Postgres would say it: pure functions over a snapshot and the session's search path.
//!
//! **Promise.** An answer that names one object is the object that the server would choose, given that the snapshot
//! (and the overlay) is what the server has; where that isn't certain the answer says so.
