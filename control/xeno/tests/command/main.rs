//! The command as people and scripts meet it: started as a process, with a daemon of the test's own at the socket.

mod console;
mod daemon;
mod failures;
mod ledger;
mod shown;
mod snapshot;
mod terminal;
mod top;
