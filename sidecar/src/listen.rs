//! Listeners: TCP and unix sockets, and the runtimes that serve what they accept.
